// A data file that is read at any place; .zst is unpacked first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "src/base/file.h"

namespace dfmoa::data {

/// Tells whether a file is still the one that was indexed.
struct FileStamp {
  std::uint64_t bytes = 0;
  std::uint64_t modified_ns = 0;

  bool operator==(const FileStamp&) const = default;
};

class TextFile {
 public:
  /// A path that ends in .zst is unpacked into an unnamed file of `unpack_dir` (empty: the system's
  /// folder for temporary files), because lines are read in any order; nothing of it stays behind.
  /// Throws UsageError for a missing path or a folder, ContentError for a broken or cut zstd
  /// stream, MachineError where reading or unpacking fails.
  TextFile(std::string path, const std::string& unpack_dir);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool is_packed() const { return is_packed_; }
  [[nodiscard]] const FileStamp& stamp() const { return stamp_; }

  /// Fills `buffer` from byte `offset` on and returns the bytes read, fewer only at the end.
  /// Throws MachineError.
  [[nodiscard]] std::size_t read(std::uint64_t offset, std::span<char> buffer) const;

  /// All of it, unpacked. Throws MachineError.
  [[nodiscard]] std::string text() const;

 private:
  std::string path_;
  base::Descriptor descriptor_;
  FileStamp stamp_;
  bool is_packed_ = false;
};

}  // namespace dfmoa::data
