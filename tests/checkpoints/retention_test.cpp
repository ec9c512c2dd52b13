#include "checkpoints/retention.h"

#include "src/base/error.h"
#include "src/base/file.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;
using Steps = std::vector<std::int64_t>;

TEST(Retention, keeps_the_last_n) {
  EXPECT_EQ(steps_to_remove({10, 20, 30, 40}, 40, {2, 0}), (Steps{20, 10}));
  EXPECT_EQ(steps_to_remove({10, 20, 30, 40}, 40, {4, 0}), Steps{});
  EXPECT_EQ(steps_to_remove({10, 20, 30, 40}, 40, {9, 0}), Steps{});
}

TEST(Retention, keeps_every_multiple) {
  EXPECT_EQ(steps_to_remove({0, 10, 20, 30, 40, 50}, 50, {1, 20}), (Steps{30, 10}));
}

TEST(Retention, keeps_the_best) {
  EXPECT_EQ(steps_to_remove({10, 20, 30, 40}, 40, {1, 0, 20}), (Steps{30, 10}));
  EXPECT_EQ(steps_to_remove({10, 20, 30, 40}, 40, {1, 0, 50}), (Steps{30, 20, 10}));
}

TEST(Retention, never_removes_the_saved_one_nor_later_ones) {
  EXPECT_EQ(steps_to_remove({10, 20, 30}, 20, {1, 0}), Steps{10});
  EXPECT_EQ(steps_to_remove({10, 20, 30}, 30, {0, 0}), (Steps{20, 10}));
}

TEST(Retention, names_of_folders) {
  EXPECT_EQ(folder_name(100), "step_00000100");
  EXPECT_EQ(folder_name(1234567890), "step_1234567890");
  EXPECT_EQ(step_of("step_00000100"), 100);
  EXPECT_EQ(step_of("step_1234567890"), 1234567890);
  for (const std::string name : {"step_100", "step_00000100.tmp", "step_-0000001", "step_",
                                 "latest", "step_000000100", "step_99999999999999999999"}) {
    EXPECT_FALSE(step_of(name)) << name;
  }
}

class RetentionOnDisk : public CheckpointFolder {};

TEST_F(RetentionOnDisk, removes_folders_and_leaves_foreign_names_alone) {
  for (const std::string name : {"step_00000001", "step_00000002", "step_00000003", "mine",
                                 "mine.tmp", "step_00000009.tmp"}) {
    fs::create_directories(folder_ / name / "inner");
  }
  base::write_file(folder_ / "step_00000004", "a file");
  EXPECT_EQ(steps_in(folder_), (Steps{1, 2, 3}));
  apply_retention(folder_, 3, {1, 0});
  EXPECT_EQ(steps_in(folder_), Steps{3});
  remove_leftovers(folder_);
  EXPECT_FALSE(fs::exists(folder_ / "step_00000009.tmp"));
  EXPECT_TRUE(fs::exists(folder_ / "mine.tmp"));
}

TEST_F(RetentionOnDisk, a_folder_that_cannot_be_removed_is_named) {
  fs::create_directories(folder_ / "step_00000001");
  base::write_file(folder_ / "step_00000001.tmp", "in the way");
  const auto sentence = sentence_of<base::MachineError>([&] {
    apply_retention(folder_, 3, {1, 0});
  });
  EXPECT_NE(sentence.find("removing " + (folder_ / "step_00000001").string()), std::string::npos);
}

TEST_F(RetentionOnDisk, a_folder_that_cannot_be_listed_is_named) {
  base::write_file(folder_ / "file", "");
  EXPECT_THROW((void)steps_in(folder_ / "file"), base::MachineError);
  EXPECT_EQ(steps_in(folder_ / "none"), Steps{});
}

}  // namespace
}  // namespace dfmoa::checkpoints
