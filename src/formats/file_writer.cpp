#include "src/formats/file_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "src/base/text.h"

namespace dfmoa::formats {

void write_all(int descriptor, std::span<const std::byte> bytes,
               const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const auto written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) base::throw_errno(base::text("writing ", path.string()));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

ReplacedFile::ReplacedFile(const std::filesystem::path& path)
    : path_(path),
      temporary_(path.string() + ".tmp"),
      file_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  if (!file_) base::throw_errno(base::text("creating ", temporary_.string()));
}

ReplacedFile::~ReplacedFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void ReplacedFile::write(std::span<const std::byte> bytes) {
  write_all(file_.get(), bytes, temporary_);
}

void ReplacedFile::commit() {
  if (::fsync(file_.get()) != 0) base::throw_errno(base::text("syncing ", temporary_.string()));
  if (::close(file_.release()) != 0) {
    base::throw_errno(base::text("closing ", temporary_.string()));
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    base::throw_errno(base::text("renaming ", temporary_.string(), " to ", path_.string()));
  }
  committed_ = true;
  base::sync_path(path_.has_parent_path() ? path_.parent_path() : ".");
}

}  // namespace dfmoa::formats
