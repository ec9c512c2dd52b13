// Files: read-only mappings, whole reads, and writes that appear whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "src/base/handle.h"

namespace dfmoa::base {

struct DescriptorTraits {
  using type = int;
  static constexpr int invalid() noexcept { return -1; }
  static void close(int descriptor) noexcept;
};
using Descriptor = UniqueHandle<DescriptorTraits>;

/// A file mapped read-only; the bytes live as long as the object.
class MappedFile {
 public:
  /// Throws UsageError if the path does not exist, MachineError if it cannot be read.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The whole file as text. Throws as MappedFile does.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

/// Creates the file, writes, fsyncs and closes. Throws MachineError with errno's words.
void write_file(const std::filesystem::path& path, std::string_view content);

/// Writes `path`.tmp, fsyncs it, renames it over `path`, fsyncs the folder.
void replace_file(const std::filesystem::path& path, std::string_view content);

/// fsync of an existing file or folder.
void sync_path(const std::filesystem::path& path);

/// Throws MachineError "doing: errno's words".
[[noreturn]] void throw_errno(const std::string& doing);

}  // namespace dfmoa::base
