// A hash that took a pass over gigabytes is kept in the user's cache folder, under what the files
// looked like: path, size and time of the last change of each.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace dfmoa::base {

/// XDG_CACHE_HOME/dfmoa, else HOME/.cache/dfmoa; empty where neither is an absolute path: nothing
/// is kept then.
[[nodiscard]] std::filesystem::path user_cache_folder();

class HashCache {
 public:
  /// Looks at the files now. `purpose` is what the hash depends on besides them.
  HashCache(std::filesystem::path folder, const std::string& purpose,
            const std::vector<std::filesystem::path>& files);

  /// The hash that was kept for exactly these files and this purpose; nothing where there is none
  /// or the entry is damaged.
  [[nodiscard]] std::optional<std::string> find() const;

  /// Keeps it, unless a file changed while it was read or so recently that its next change could
  /// bear the same time. A folder that cannot be written is no error: the hash is taken anew then.
  void store(const std::string& hash) const;

 private:
  [[nodiscard]] std::filesystem::path entry() const;

  std::filesystem::path folder_;
  std::string purpose_;
  std::vector<std::filesystem::path> files_;
  std::string key_;  ///< empty where a file could not be looked at
  std::filesystem::file_time_type looked_;
};

}  // namespace dfmoa::base
