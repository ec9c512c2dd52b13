#include "checkpoints/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) base::throw_errno("asking the host's name");
  return name.data();
}

/// A holder that has only just taken the lock has not written its name yet.
std::string holder_of(int file) {
  std::array<char, 512> words{};
  const auto count = ::pread(file, words.data(), words.size(), 0);
  const auto holder = base::trim({words.data(), static_cast<std::size_t>(count < 0 ? 0 : count)});
  return holder.empty() ? "another process" : holder;
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& run_folder) {
  const auto path = run_folder / "lock";
  const auto doing = base::text("locking the run folder ", run_folder.string());
  file_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!file_) base::throw_errno(doing);
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) base::throw_errno(doing);
    throw base::MachineError(base::text("the run folder ", run_folder.string(), " is in use by ",
                                        holder_of(file_.get()),
                                        ": stop that run or choose another folder"));
  }
  const auto words = base::text("process ", ::getpid(), " on host ", host_name(), "\n");
  if (::ftruncate(file_.get(), 0) != 0) base::throw_errno(doing);
  const auto written = ::pwrite(file_.get(), words.data(), words.size(), 0);
  if (written < 0) base::throw_errno(doing);
}

}  // namespace dfmoa::checkpoints
