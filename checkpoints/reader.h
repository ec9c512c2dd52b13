// Reading a checkpoint: verified against its manifest first, then opened.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "checkpoints/h5.h"
#include "checkpoints/manifest.h"
#include "src/base/log.h"
#include "src/base/state_tree.h"

namespace dfmoa::checkpoints {

using h5::DatasetInfo;

class Checkpoint {
 public:
  /// Opens a folder step_N after every checksum of its manifest has been compared.
  /// Throws UsageError if there is no such folder; ContentError naming file or dataset if anything
  /// is missing, damaged, not listed, or of a newer format.
  [[nodiscard]] static Checkpoint open(const std::filesystem::path& folder);

  [[nodiscard]] std::int64_t step() const { return manifest_.step; }
  /// "1.1": of the format it was written in.
  [[nodiscard]] const std::string& format() const { return manifest_.format; }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] const std::map<std::string, DatasetInfo>& datasets() const { return datasets_; }
  [[nodiscard]] const std::map<std::string, base::StateValue>& values() const { return values_; }

  /// Fills every entry of `into` that has a place for its bytes; one whose data is null, because
  /// another process holds it, is compared but not read. Nothing is written before all names, types
  /// and shapes agree; names below ext/ need not be asked for. Throws ContentError naming a dataset
  /// that is missing, not expected, of another type or shape, or whose values differ from its
  /// checksum.
  void load(const base::StateTree& into) const;

  /// One dataset; `data` holds as many bytes as datasets() says. Throws as load does.
  void read(const std::string& name, void* data) const;

  /// Reads every dataset and compares it with its checksum. Throws ContentError naming the first
  /// that differs.
  void verify_datasets() const;

 private:
  Checkpoint(std::filesystem::path folder, Manifest manifest, h5::File file)
      : folder_(std::move(folder)), manifest_(std::move(manifest)), file_(std::move(file)) {}
  void check_contents();

  std::filesystem::path folder_;
  Manifest manifest_;
  h5::File file_;
  std::map<std::string, DatasetInfo> datasets_;
  std::map<std::string, base::StateValue> values_;
};

/// The newest checkpoint that opens; nothing if there is none. Each newer one, finished or not, is
/// passed over with a warning that says why.
/// Throws MachineError if the folder cannot be listed.
[[nodiscard]] std::optional<Checkpoint> find_newest(const std::filesystem::path& checkpoints_folder,
                                                    base::Logger& log);

}  // namespace dfmoa::checkpoints
