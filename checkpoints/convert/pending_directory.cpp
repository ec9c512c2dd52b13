#include "checkpoints/convert/pending_directory.h"

#include <cstdio>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

/// "a/b/" and "a/b" are the same directory; only the second has a name to append to.
fs::path without_slash(const fs::path& path) {
  const auto normal = path.lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

void check(const std::error_code& error, const char* doing, const fs::path& path) {
  if (error) throw base::MachineError(base::text(doing, " ", path.string(), ": ", error.message()));
}

}  // namespace

PendingDirectory::PendingDirectory(const fs::path& out)
    : out_(without_slash(out)), temporary_(out_.string() + ".tmp") {
  std::error_code error;
  const auto status = fs::status(out_, error);
  if (out_.empty() || (fs::exists(status) && !fs::is_directory(status))) {
    throw base::UsageError(base::text("writing a model to '", out.string(),
                                      "': it is a file, expected a new or empty directory"));
  }
  if (fs::is_directory(status) && !fs::is_empty(out_, error)) {
    throw base::UsageError(base::text("writing a model to '", out.string(),
                                      "': the directory is not empty, expected a new one"));
  }
  fs::remove_all(temporary_, error);
  check(error, "removing", temporary_);
  fs::create_directories(temporary_, error);
  check(error, "creating", temporary_);
}

PendingDirectory::~PendingDirectory() {
  std::error_code ignored;  // nothing can be thrown here, and the first error is on its way
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void PendingDirectory::commit() {
  base::sync_path(temporary_);
  if (std::rename(temporary_.c_str(), out_.c_str()) != 0) {  // takes the place of an empty one
    base::throw_errno(base::text("renaming ", temporary_.string(), " to ", out_.string()));
  }
  committed_ = true;
  base::sync_path(out_.has_parent_path() ? out_.parent_path() : ".");
}

}  // namespace dfmoa::checkpoints
