// Files written piece by piece, for contents that must not be held in memory whole.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "src/base/file.h"

namespace dfmoa::formats {

/// Writes every byte to an open descriptor. Throws MachineError that names `path`.
void write_all(int descriptor, std::span<const std::byte> bytes, const std::filesystem::path& path);

/// A file that appears whole or not at all: the pieces go to `path`.tmp until commit().
class ReplacedFile {
 public:
  /// Throws MachineError if `path`.tmp cannot be created.
  explicit ReplacedFile(const std::filesystem::path& path);
  /// Removes the temporary unless commit() was reached.
  ~ReplacedFile();
  ReplacedFile(const ReplacedFile&) = delete;
  ReplacedFile& operator=(const ReplacedFile&) = delete;

  /// Throws MachineError.
  void write(std::span<const std::byte> bytes);
  /// fsync, close, rename over `path`, fsync of the folder. Throws MachineError.
  void commit();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  base::Descriptor file_;
  bool committed_ = false;
};

}  // namespace dfmoa::formats
