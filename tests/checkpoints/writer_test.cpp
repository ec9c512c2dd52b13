#include "checkpoints/writer.h"

#include <atomic>

#include "checkpoints/reader.h"
#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

class Writer : public CheckpointFolder {
 protected:
  void save(SmallState& state, std::int64_t step, const Retention& rule = {}) {
    const auto comm = comm::make_single();
    save_checkpoint(folder_, state.tree(), step, *comm, rule);
  }
};

TEST_F(Writer, round_trip_keeps_every_byte_and_every_value) {
  SmallState state(7);
  save(state, 100);
  const auto checkpoint = Checkpoint::open(folder_ / "step_00000100");
  EXPECT_EQ(checkpoint.step(), 100);
  EXPECT_EQ(checkpoint.values(), state.tree().values());
  ASSERT_EQ(checkpoint.datasets().size(), state.tree().entries().size());
  EXPECT_EQ(checkpoint.datasets().at("layer/0/q/expert/2/A").shape, (h5::Shape{0, 6}));
  EXPECT_EQ(checkpoint.datasets().at("small/bf16").dtype, base::DType::bf16);
  SmallState loaded;
  loaded.clear();
  checkpoint.load(loaded.tree());
  EXPECT_EQ(loaded.bytes(), state.bytes());
}

TEST_F(Writer, equal_states_give_equal_files) {
  SmallState state(3);
  save(state, 1);
  const auto first = base::read_file(folder_ / "step_00000001/checkpoint.h5");
  ::sleep(1);  // a time stamp would differ
  save(state, 1);
  EXPECT_EQ(base::read_file(folder_ / "step_00000001/checkpoint.h5"), first);
}

TEST_F(Writer, latest_names_the_folder_and_nothing_temporary_stays) {
  SmallState state;
  fs::create_directories(folder_ / "step_00000004.tmp/inner");  // a save that was killed
  save(state, 5);
  EXPECT_EQ(base::read_file(folder_ / "latest"), "step_00000005\n");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder_))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"latest", "step_00000005"}));
}

TEST_F(Writer, a_folder_of_the_same_step_is_exchanged) {
  SmallState old_state(1);
  SmallState new_state(2);
  save(old_state, 5);
  save(new_state, 5);
  SmallState loaded;
  Checkpoint::open(folder_ / "step_00000005").load(loaded.tree());
  EXPECT_EQ(loaded.bytes(), new_state.bytes());
  EXPECT_FALSE(fs::exists(folder_ / "step_00000005.tmp"));
}

TEST_F(Writer, retention_runs_after_the_save) {
  SmallState state;
  for (const std::int64_t step : {10, 20, 30, 40}) save(state, step, {2, 20});
  EXPECT_EQ(steps_in(folder_), (std::vector<std::int64_t>{20, 30, 40}));
}

TEST_F(Writer, several_processes_write_one_checkpoint) {
  comm::run_local(3, [&](comm::Communicator& comm) {
    SmallState state(9);
    save_checkpoint(folder_, state.tree(), 2, comm, {});
  });
  SmallState loaded;
  SmallState expected(9);
  Checkpoint::open(folder_ / "step_00000002").load(loaded.tree());
  EXPECT_EQ(loaded.bytes(), expected.bytes());
}

TEST_F(Writer, a_failure_of_process_0_reaches_all_and_leaves_the_older_checkpoint) {
  SmallState state(1);
  save(state, 1);
  base::write_file(folder_ / "step_00000002.tmp", "a file where the folder must go");
  std::atomic<int> refused = 0;
  comm::run_local(3, [&](comm::Communicator& comm) {
    SmallState mine(2);
    EXPECT_THROW(save_checkpoint(folder_, mine.tree(), 2, comm, {}), base::MachineError);
    ++refused;
  });
  EXPECT_EQ(refused, 3);
  EXPECT_EQ(steps_in(folder_), (std::vector<std::int64_t>{1}));
  EXPECT_EQ(Checkpoint::open(folder_ / "step_00000001").step(), 1);
}

TEST_F(Writer, a_negative_step_is_refused) {
  SmallState state;
  EXPECT_THROW(save(state, -1), base::ContentError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
