// The commit sequence under fire: a program that saves is killed, or its calls fail, at every
// write, fsync, rename and removal, and on a full disk. What is found afterwards is always one
// whole step.
#include <sys/mount.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "checkpoints/reader.h"
#include "checkpoints/retention.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "tests/checkpoints/running_state.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

constexpr int kKilled = 128 + SIGKILL;

std::string hash_of_step(std::int64_t step) {
  RunningState state;
  while (state.step < step) state.advance();
  return state.hash();
}

class Kill : public CheckpointFolder {
 protected:
  fs::path run_ = folder_ / "run";
  fs::path log_ = folder_ / "log.txt";

  void SetUp() override {
    CheckpointFolder::SetUp();
    fs::create_directories(run_);
  }

  /// The exit status of the tool; its words are in log_.
  int save(std::int64_t until, const std::string& environment = {}, int processes = 1) {
    const auto command = base::text(environment, " ", SAVE_TOOL, " ", run_.string(), " ", until,
                                    " ", processes, " > ", log_.string(), " 2>&1");
    return WEXITSTATUS(std::system(command.c_str()));
  }

  static std::string fault(const std::string& op, int nth, const std::string& action) {
    return base::text("DFMOA_IO_FAULT=", op, ":", nth, ":", action,
                      " DFMOA_IO_FAULT_PATH=/checkpoints LD_PRELOAD=", IO_FAULT);
  }

  void start_over() {
    fs::remove_all(run_);
    fs::create_directories(run_);
    ASSERT_EQ(save(1), 0) << words();
  }

  [[nodiscard]] std::string words() const { return base::read_file(log_); }

  /// The step of the newest checkpoint, after a look at every one of its bytes.
  std::int64_t newest_whole_step() {
    base::Logger log(false);
    const auto newest = find_newest(run_ / "checkpoints", log);
    if (!newest) return -1;
    RunningState state;
    newest->load(state.tree());
    EXPECT_EQ(state.hash(), hash_of_step(newest->step())) << "a mixture of steps";
    EXPECT_EQ(newest->values().at("tokens_seen"), base::StateValue(newest->step() * 1000));
    return newest->step();
  }

  /// Kills the save of step 2 in every window of `op`; returns how many windows there were, and in
  /// `before` how many of them ended with step 1.
  int kill_in_every_window(const std::string& op, const std::string& action, int& before) {
    for (int nth = 1;; ++nth) {
      start_over();
      const int status = save(2, fault(op, nth, action));
      if (status == 0) return nth - 1;
      EXPECT_EQ(status, kKilled) << words();
      const auto step = newest_whole_step();
      EXPECT_TRUE(step == 1 || step == 2) << op << " " << nth << ": " << step;
      if (step == 1) ++before;
      EXPECT_EQ(save(3), 0) << words();
      EXPECT_NE(words().find("hash " + hash_of_step(3)), std::string::npos) << words();
      if (HasFailure()) return nth;
    }
  }
};

TEST_F(Kill, every_fsync) {
  int before = 0;
  const int windows = kill_in_every_window("fsync", "kill", before);
  // File, folder, manifest, folder | parent, latest, parent: four before the rename, three after.
  EXPECT_EQ(windows, 7);
  EXPECT_EQ(before, 4);
}

TEST_F(Kill, every_rename) {
  int before = 0;
  // The commit, `latest`, and the older folder on its way out.
  EXPECT_EQ(kill_in_every_window("rename", "kill", before), 3);
  EXPECT_EQ(before, 1);
}

TEST_F(Kill, every_write) {
  int before = 0;
  const int windows = kill_in_every_window("write", "kill", before);
  EXPECT_GE(windows, 8);
  EXPECT_EQ(windows - before, 1) << "only the write of `latest` comes after the commit";
}

TEST_F(Kill, every_torn_write) {
  int before = 0;
  EXPECT_GE(kill_in_every_window("write", "torn", before), 8);
}

TEST_F(Kill, every_removal) {
  int before = 0;
  // Of the older folder: its two files, then itself.
  EXPECT_EQ(kill_in_every_window("remove", "kill", before), 3);
  EXPECT_EQ(before, 0);
}

/// NFS can neither exchange two folders nor refuse to replace one: a damaged checkpoint must not
/// stand in the way of the next one of its step.
TEST_F(Kill, a_damaged_step_is_replaced_where_folders_cannot_be_exchanged) {
  const auto no_flags = [](const std::string& more) {
    return base::text("DFMOA_IO_NO_FLAGS=1 ", more, " LD_PRELOAD=", IO_FAULT);
  };
  const auto file = run_ / "checkpoints/step_00000002/checkpoint.h5";
  for (const std::string kill : {"", "DFMOA_IO_FAULT=rename:1:kill", "DFMOA_IO_FAULT=rename:2:kill",
                                 "DFMOA_IO_FAULT=rename:3:kill"}) {
    start_over();
    ASSERT_EQ(save(2, no_flags("")), 0) << words();
    fs::resize_file(file, fs::file_size(file) / 2);
    ASSERT_EQ(newest_whole_step(), -1);
    // From the start, because step 1 has gone with the save of step 2.
    const int status = save(2, no_flags(kill + " DFMOA_IO_FAULT_PATH=step_00000002"));
    EXPECT_TRUE(status == 0 || (status == kKilled && !kill.empty())) << words();
    EXPECT_GE(newest_whole_step(), 1) << kill;
    ASSERT_EQ(save(3, no_flags("")), 0) << words();
    EXPECT_EQ(newest_whole_step(), 3);
    for (const auto& entry : fs::directory_iterator(run_ / "checkpoints")) {
      EXPECT_NE(entry.path().extension(), ".old") << entry.path();
    }
  }
}

/// A call that fails is an error with its words; the older checkpoint stays, nothing else does.
TEST_F(Kill, every_failing_call_is_reported_and_leaves_the_older_checkpoint) {
  for (const std::string op : {"write", "fsync", "rename"}) {
    for (int nth = 1;; ++nth) {
      start_over();
      const int status = save(2, fault(op, nth, std::to_string(EIO)));
      if (status == 0) break;
      ASSERT_EQ(status, 1) << op << " " << nth << ": " << words();
      EXPECT_NE(words().find("Input/output error"), std::string::npos) << words();
      const auto step = newest_whole_step();
      EXPECT_TRUE(step == 1 || step == 2) << op << " " << nth;
      EXPECT_FALSE(step == 1 && fs::exists(run_ / "checkpoints/step_00000002.tmp")) << op << nth;
    }
  }
}

TEST_F(Kill, at_any_time_in_saves_made_long) {
  constexpr std::int64_t kLast = 12;
  const base::KeyedRandom random(1, {2});
  int killed = 0;
  int inside = 0;
  for (std::uint64_t turn = 0; turn < 10; ++turn) {
    const auto seconds = 0.05 + 0.2 * random.uniform(turn);
    const auto environment =
        base::text("DFMOA_FSYNC_DELAY_MS=15 LD_PRELOAD=", IO_FAULT, " timeout -s KILL ", seconds);
    if (save(kLast, environment) == kKilled) ++killed;
    if (fs::exists(run_ / "checkpoints")) {
      for (const auto& entry : fs::directory_iterator(run_ / "checkpoints")) {
        if (entry.path().extension() == ".tmp") ++inside;
      }
    }
    EXPECT_GE(newest_whole_step(), -1);
  }
  EXPECT_GE(killed, 5);
  EXPECT_GE(inside, 1) << "no kill fell into a save";
  EXPECT_EQ(save(kLast), 0) << words();
  EXPECT_NE(words().find("hash " + hash_of_step(kLast)), std::string::npos) << words();
}

/// A small file system in memory, mounted over the run folder.
class FullDisk : public Kill {
 protected:
  void SetUp() override {
    Kill::SetUp();
    if (::mount("tmpfs", run_.c_str(), "tmpfs", 0, "size=6m") != 0) {
      GTEST_SKIP() << "mounting a tmpfs: " << std::strerror(errno);
    }
    is_mounted_ = true;
  }
  void TearDown() override {
    if (is_mounted_) ::umount(run_.c_str());
    Kill::TearDown();
  }

  void leave_free(std::uint64_t bytes) {
    fs::remove(run_ / "filler");
    const auto space = fs::space(run_).available;
    ASSERT_GT(space, bytes);
    std::ofstream(run_ / "filler", std::ios::binary) << std::string(space - bytes, 'x');
  }

 private:
  bool is_mounted_ = false;
};

TEST_F(FullDisk, all_processes_fail_at_once_and_the_older_checkpoint_stays) {
  ASSERT_EQ(save(1, {}, 3), 0) << words();
  const auto size = fs::file_size(run_ / "checkpoints/step_00000001/checkpoint.h5");
  for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{4096}, std::uint64_t{65536},
                                    size / 2, size - 4096, size + 4096}) {
    leave_free(bytes);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(save(2, {}, 3), 1) << bytes << ": " << words();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
    for (const std::string process : {"process 0: ", "process 1: ", "process 2: "}) {
      EXPECT_NE(words().find(process), std::string::npos) << words();
    }
    EXPECT_NE(words().find("No space left on device"), std::string::npos) << words();
    EXPECT_EQ(newest_whole_step(), 1);
    EXPECT_FALSE(fs::exists(run_ / "checkpoints/step_00000002.tmp"));
  }
  fs::remove(run_ / "filler");
  EXPECT_EQ(save(2, {}, 3), 0) << words();
  EXPECT_EQ(newest_whole_step(), 2);
}

TEST_F(Kill, a_run_folder_in_use_is_refused_and_free_after_a_kill) {
  const auto environment =
      base::text("DFMOA_FSYNC_DELAY_MS=200 LD_PRELOAD=", IO_FAULT, " timeout -s KILL 1");
  const auto first = base::text(environment, " ", SAVE_TOOL, " ", run_.string(), " 100 >",
                                (folder_ / "first.txt").string(), " 2>&1");
  std::thread other([&] { EXPECT_EQ(WEXITSTATUS(std::system(first.c_str())), kKilled); });
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_EQ(save(1), 1);
  EXPECT_NE(words().find("is in use by process "), std::string::npos) << words();
  other.join();
  EXPECT_EQ(save(1), 0) << words();
}

}  // namespace
}  // namespace dfmoa::checkpoints
