#include "src/base/hash_cache.h"

#include <unistd.h>

#include <cstdlib>
#include <system_error>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/hash.h"
#include "src/base/text.h"

namespace dfmoa::base {
namespace {

namespace fs = std::filesystem;

/// Time stamps are as coarse as this on the file systems that people use.
constexpr auto kCoarsestStamp = std::chrono::seconds(2);

fs::path absolute_path_in(const char* variable) {
  const char* value = std::getenv(variable);
  fs::path path(value == nullptr ? "" : value);
  return path.is_absolute() ? path : fs::path();
}

/// One line a file; empty where one cannot be looked at.
std::string key_of(const std::string& purpose, const std::vector<fs::path>& files) {
  std::string key = purpose + "\n";
  for (const auto& file : files) {
    std::error_code error;
    const auto path = fs::canonical(file, error);
    if (error) return {};
    const auto size = fs::file_size(path, error);
    if (error) return {};
    const auto changed = fs::last_write_time(path, error);
    if (error) return {};
    key += text(path.string(), " ", size, " ", changed.time_since_epoch().count(), "\n");
  }
  return key;
}

/// What an entry must be, byte for byte: its first line is the checksum of the rest.
std::string entry_text(const std::string& key, const std::string& hash) {
  const auto rest = hash + "\n" + key;
  return hash128(rest.data(), rest.size()) + "\n" + rest;
}

}  // namespace

fs::path user_cache_folder() {
  if (const auto own = absolute_path_in("XDG_CACHE_HOME"); !own.empty()) return own / "dfmoa";
  const auto home = absolute_path_in("HOME");
  return home.empty() ? fs::path() : home / ".cache" / "dfmoa";
}

HashCache::HashCache(fs::path folder, const std::string& purpose,
                     const std::vector<fs::path>& files)
    : folder_(std::move(folder)),
      purpose_(purpose),
      files_(files),
      key_(folder_.empty() ? std::string() : key_of(purpose, files)),
      looked_(fs::file_time_type::clock::now()) {}

fs::path HashCache::entry() const {
  return folder_ / ("hash_" + hash128(key_.data(), key_.size()));
}

std::optional<std::string> HashCache::find() const {
  std::error_code error;
  if (key_.empty() || !fs::is_regular_file(entry(), error)) return std::nullopt;
  try {
    const auto content = read_file(entry());
    const auto lines = split(content.substr(0, content.size() - key_.size()), '\n');
    if (lines.size() == 2 && content == entry_text(key_, lines[1])) return lines[1];
  } catch (const Error&) {  // unreadable, or removed by now: as if it were not there
  }
  return std::nullopt;
}

void HashCache::store(const std::string& hash) const {
  if (key_.empty() || key_of(purpose_, files_) != key_) return;
  std::error_code error;
  for (const auto& file : files_) {
    const auto changed = fs::last_write_time(file, error);
    if (error || changed > looked_ - kCoarsestStamp) return;
  }
  fs::create_directories(folder_, error);
  // A name of its own: several processes of a run keep the same hash at once.
  const fs::path temporary = text(entry().string(), ".", ::getpid(), ".tmp");
  try {
    write_file(temporary, entry_text(key_, hash));
    fs::rename(temporary, entry());
  } catch (const std::exception&) {  // nowhere to keep it: no error of the run
    fs::remove(temporary, error);
  }
}

}  // namespace dfmoa::base
