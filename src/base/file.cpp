#include "src/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::base {

void DescriptorTraits::close(int descriptor) noexcept {
  ::close(descriptor);
}

void throw_errno(const std::string& doing) {
  throw MachineError(text(doing, ": ", std::strerror(errno)));
}

namespace {

Descriptor open_to_read(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) {
    throw UsageError(text("reading ", path.string(), ": there is no such file"));
  }
  if (!file) throw_errno(text("reading ", path.string()));
  return file;
}

void write_all(int descriptor, std::string_view content, const std::filesystem::path& path) {
  while (!content.empty()) {
    const auto written = ::write(descriptor, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_errno(text("writing ", path.string()));
    content.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const auto file = open_to_read(path);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_errno(text("reading ", path.string()));
  if (S_ISDIR(status.st_mode)) {
    throw UsageError(text("reading ", path.string(), ": it is a folder, expected a file"));
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) throw_errno(text("mapping ", path.string()));
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) throw_errno(text("creating ", path.string()));
  write_all(file.get(), content, path);
  if (::fsync(file.get()) != 0) throw_errno(text("syncing ", path.string()));
  if (::close(file.release()) != 0) throw_errno(text("closing ", path.string()));
}

void replace_file(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path temporary = path.string() + ".tmp";
  write_file(temporary, content);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    throw_errno(text("renaming ", temporary.string(), " to ", path.string()));
  }
  sync_path(path.has_parent_path() ? path.parent_path() : ".");
}

void sync_path(const std::filesystem::path& path) {
  const auto file = open_to_read(path);
  if (::fsync(file.get()) != 0) throw_errno(text("syncing ", path.string()));
}

}  // namespace dfmoa::base
