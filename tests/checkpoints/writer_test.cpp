#include "checkpoints/writer.h"

#include <atomic>

#include "checkpoints/reader.h"
#include "tests/checkpoints/stream_cases.h"

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

TEST_F(Writer, owners_on_several_processes_give_the_files_of_one) {
  for (const int processes : {1, 2, 3, 4}) {
    comm::run_local(processes, [&](comm::Communicator& comm) {
      check_files(comm, folder_ / std::to_string(processes));
    });
  }
}

TEST_F(Writer, what_four_processes_saved_is_loaded_by_any_number_with_other_owners) {
  comm::run_local(4, [&](comm::Communicator& comm) {
    SpreadState state(9, comm.process(), 4);
    save_checkpoint(folder_, state.tree(), 2, comm, {});
  });
  for (const int processes : {4, 3, 2, 1}) {
    comm::run_local(processes, [&](comm::Communicator& comm) {
      SpreadState state(10, comm.process(), processes, /*shift=*/1);
      const auto foreign = state.whole().bytes();
      EXPECT_FALSE(state.holds(9));
      Checkpoint::open(folder_ / "step_00000002").load(state.tree());
      EXPECT_TRUE(state.holds(9)) << comm.process() << " of " << processes;
      for (const auto& [name, entry] : state.tree().entries()) {
        if (entry.owner == comm.process()) continue;
        EXPECT_EQ(state.whole().bytes().at(name), foreign.at(name)) << name << " was touched";
      }
      const auto again = folder_ / ("again_" + std::to_string(processes));
      save_checkpoint(again, state.tree(), 2, comm, {});
      if (comm.process() != 0) return;
      EXPECT_TRUE(base::read_file(again / "step_00000002/checkpoint.h5") ==
                  base::read_file(folder_ / "step_00000002/checkpoint.h5"));
    });
  }
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
