#include "checkpoints/convert/pending_directory.h"

#include <cstdio>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

/// Says that a directory is ours to remove.
constexpr const char* kMark = "unfinished";

/// "a/b/", "a/./b" and "a/b" are the same directory; only the last has a name to append to.
fs::path full_name(const fs::path& path) {
  const auto normal = fs::absolute(path).lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

void check(const std::error_code& error, const char* doing, const fs::path& path) {
  if (error) throw base::MachineError(base::text(doing, " ", path.string(), ": ", error.message()));
}

/// Removes what a killed process left; never a directory of somebody else's.
void remove_unfinished(const fs::path& temporary) {
  std::error_code error;
  if (!fs::exists(temporary, error)) return;
  if (!fs::exists(temporary / kMark) && !fs::is_empty(temporary, error)) {
    throw base::UsageError(base::text("writing a model beside '", temporary.string(),
                                      "', which was not left by an unfinished one: expected no "
                                      "such file or directory"));
  }
  fs::remove_all(temporary, error);
  check(error, "removing", temporary);
}

}  // namespace

PendingDirectory::PendingDirectory(const fs::path& out) {
  if (out.empty()) throw base::UsageError("writing a model to '': expected a directory's name");
  out_ = full_name(out);
  temporary_ = out_.string() + ".tmp";
  std::error_code error;
  const auto status = fs::status(out_, error);
  if (fs::exists(status) && !fs::is_directory(status)) {
    throw base::UsageError(base::text("writing a model to '", out.string(),
                                      "': it is a file, expected a new or empty directory"));
  }
  if (fs::is_directory(status) && !fs::is_empty(out_, error)) {
    throw base::UsageError(base::text("writing a model to '", out.string(),
                                      "': the directory is not empty, expected a new one"));
  }
  remove_unfinished(temporary_);
  fs::create_directories(temporary_, error);
  check(error, "creating", temporary_);
  try {
    base::write_file(temporary_ / kMark, "");
  } catch (...) {
    fs::remove_all(temporary_, error);
    throw;
  }
}

PendingDirectory::~PendingDirectory() {
  std::error_code ignored;  // nothing can be thrown here, and the first error is on its way
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void PendingDirectory::commit() {
  std::error_code error;
  fs::remove(temporary_ / kMark, error);
  check(error, "removing", temporary_ / kMark);
  base::sync_path(temporary_);
  if (std::rename(temporary_.c_str(), out_.c_str()) != 0) {  // takes the place of an empty one
    base::throw_errno(base::text("renaming ", temporary_.string(), " to ", out_.string()));
  }
  committed_ = true;
  base::sync_path(out_.parent_path());
}

}  // namespace dfmoa::checkpoints
