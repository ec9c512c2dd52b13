#include "checkpoints/run_lock.h"

#include <sys/wait.h>

#include <array>
#include <csignal>
#include <optional>

#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {
namespace {

class Lock : public CheckpointFolder {};

TEST_F(Lock, a_second_run_is_refused_with_pid_and_host_until_the_first_ends) {
  std::optional<RunLock> first(std::in_place, folder_);
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  EXPECT_EQ(sentence_of<base::MachineError>([&] { const RunLock second(folder_); }),
            base::text("the run folder ", folder_.string(), " is in use by process ", ::getpid(),
                       " on host ", host.data(), ": stop that run or choose another folder"));
  first.reset();
  EXPECT_NO_THROW(const RunLock second(folder_));
}

TEST_F(Lock, a_killed_run_leaves_no_lock) {
  std::array<int, 2> ready{};
  ASSERT_EQ(::pipe(ready.data()), 0);
  const auto child = ::fork();
  if (child == 0) {
    const RunLock lock(folder_);
    (void)!::write(ready[1], "x", 1);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto sentence = sentence_of<base::MachineError>([&] { const RunLock second(folder_); });
  EXPECT_NE(sentence.find(base::text("process ", child, " on")), std::string::npos) << sentence;
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_NO_THROW(const RunLock second(folder_));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(Lock, a_folder_that_cannot_be_written_is_named) {
  const auto sentence =
      sentence_of<base::MachineError>([&] { const RunLock lock(folder_ / "none"); });
  EXPECT_NE(sentence.find("locking the run folder"), std::string::npos) << sentence;
}

}  // namespace
}  // namespace dfmoa::checkpoints
