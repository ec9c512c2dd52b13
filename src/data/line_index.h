// Where the lines of a data file begin: scanned once, kept beside the file.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/data/text_file.h"

namespace dfmoa::data {

/// The non-blank lines of one file, 12 bytes a line. A byte order mark and line ends of either kind
/// belong to no line.
///
/// On disk: six 64-bit words (signature, the file's bytes and modification time, lines, two words
/// of the content's hash), the first byte of every line and the end of the file (64 bits each), the
/// line numbers (32 bits each), XXH3-128 of all that. An index that does not fit the file, or whose
/// hash is wrong, is made anew.
class LineIndex {
 public:
  /// In memory only, for files that are read once.
  static LineIndex scan(const TextFile& file);

  /// From disk, else scanned and written: beside the file (FILE.dfmoa_index), else in `index_dir`.
  /// The index of a .zst file stays in memory: unpacking reads every byte anyway.
  /// Throws MachineError naming data.index_dir where neither place is writable.
  static LineIndex stored(const TextFile& file, const std::string& index_dir);

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(number_.size()); }

  /// Bytes [begin, end) hold the line, its line end and blank lines behind it.
  [[nodiscard]] std::uint64_t begin(std::int64_t line) const {
    return begin_[static_cast<std::size_t>(line)];
  }
  [[nodiscard]] std::uint64_t end(std::int64_t line) const {
    return begin_[static_cast<std::size_t>(line) + 1];
  }
  /// As an editor counts: from 1, blank lines included.
  [[nodiscard]] std::uint32_t number(std::int64_t line) const {
    return number_[static_cast<std::size_t>(line)];
  }
  /// 16 bytes of XXH3-128 over the (unpacked) content.
  [[nodiscard]] const std::string& content_hash() const { return content_hash_; }

 private:
  static bool load(const std::string& place, const FileStamp& stamp, LineIndex& index);
  [[nodiscard]] std::string store(const std::string& place, const FileStamp& stamp) const;

  std::vector<std::uint64_t> begin_memory_;
  std::vector<std::uint32_t> number_memory_;
  std::unique_ptr<base::MappedFile> mapping_;
  std::span<const std::uint64_t> begin_;
  std::span<const std::uint32_t> number_;
  std::string content_hash_;
};

}  // namespace dfmoa::data
