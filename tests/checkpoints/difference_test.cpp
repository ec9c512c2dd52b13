#include "checkpoints/difference.h"

#include <cmath>
#include <limits>

#include "checkpoints/retention.h"
#include "checkpoints/writer.h"
#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "tests/checkpoints/damage.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {
namespace {

/// A state of a few plain numbers, saved as the checkpoint of a step.
class Differences : public CheckpointFolder {
 protected:
  std::vector<float> a_{3, 4, 0, 0};
  std::vector<std::int64_t> ids_{7, 8};
  base::StateTree tree_;

  void SetUp() override {
    CheckpointFolder::SetUp();
    tree_.add({"A", base::DType::f32, {2, 2}, a_.data(), 0});
    tree_.add({"ids", base::DType::i64, {2}, ids_.data(), 0});
    tree_.set("rate", 0.5);
    tree_.set("words", std::string("one"));
  }
  Checkpoint saved(base::StateTree& tree, std::int64_t step) {
    const auto comm = comm::make_single();
    save_checkpoint(folder_, tree, step, *comm, {});
    return Checkpoint::open(folder_ / folder_name(step));
  }
};

TEST_F(Differences, a_state_saved_twice_is_identical) {
  SmallState state(5);
  const auto first = saved(state.tree(), 1);
  const auto difference = compare(first, saved(state.tree(), 2));
  EXPECT_TRUE(difference.identical());
  EXPECT_TRUE(difference.same_layout());
  EXPECT_EQ(difference.equal_datasets, state.tree().entries().size());
  EXPECT_EQ(difference.equal_values, state.tree().values().size());
}

TEST_F(Differences, every_element_type_is_compared) {
  SmallState one(5);
  SmallState other(6);
  const auto first = saved(one.tree(), 1);
  const auto difference = compare(first, saved(other.tree(), 2));
  EXPECT_EQ(difference.changed.size(), one.tree().entries().size() - 1);  // all but the empty one
  EXPECT_EQ(difference.equal_datasets, 1U);
  for (const auto& change : difference.changed) EXPECT_GT(change.largest, 0) << change.name;
}

TEST_F(Differences, a_change_has_its_size_absolute_and_relative) {
  const auto first = saved(tree_, 1);
  a_ = {3, 4, 0.375F, -0.5F};
  ids_[1] = 18;
  const auto difference = compare(first, saved(tree_, 2));
  ASSERT_EQ(difference.changed.size(), 2U);
  EXPECT_EQ(difference.changed[0].name, "A");
  EXPECT_EQ(difference.changed[0].elements, 2);
  EXPECT_DOUBLE_EQ(difference.changed[0].largest, 0.5);
  EXPECT_DOUBLE_EQ(difference.changed[0].relative, 0.125);  // |(0.375, 0.5)| of |(3, 4)|
  EXPECT_EQ(difference.changed[1].name, "ids");
  EXPECT_DOUBLE_EQ(difference.changed[1].largest, 10);
  EXPECT_TRUE(difference.same_layout());
  EXPECT_FALSE(difference.identical());
}

TEST_F(Differences, what_is_not_finite_never_looks_small) {
  const auto first = saved(tree_, 1);
  a_[2] = std::numeric_limits<float>::quiet_NaN();
  const auto second = saved(tree_, 2);
  EXPECT_TRUE(std::isinf(compare(first, second).changed.at(0).largest));
  EXPECT_TRUE(std::isinf(compare(second, first).changed.at(0).relative));
  EXPECT_TRUE(compare(second, saved(tree_, 3)).identical());  // the same bits
}

TEST_F(Differences, a_sign_of_zero_is_a_change_of_size_zero) {
  const auto first = saved(tree_, 1);
  a_[3] = -0.0F;
  const auto difference = compare(first, saved(tree_, 2));
  ASSERT_EQ(difference.changed.size(), 1U);
  EXPECT_EQ(difference.changed[0].largest, 0);
  EXPECT_EQ(difference.changed[0].relative, 0);
}

TEST_F(Differences, growth_from_zero_is_infinite_relative_to_it) {
  a_ = {0, 0, 0, 0};
  const auto first = saved(tree_, 1);
  a_[0] = 1;
  EXPECT_TRUE(std::isinf(compare(first, saved(tree_, 2)).changed.at(0).relative));
}

TEST_F(Differences, layouts_are_told_apart_by_name_type_and_shape) {
  const auto first = saved(tree_, 1);
  base::StateTree other;
  other.add({"A", base::DType::f32, {4}, a_.data(), 0});
  other.add({"new", base::DType::i64, {2}, ids_.data(), 0});
  const auto difference = compare(first, saved(other, 2));
  EXPECT_FALSE(difference.same_layout());
  ASSERT_EQ(difference.other_layout.size(), 1U);
  EXPECT_EQ(difference.other_layout[0].name, "A");
  EXPECT_EQ(difference.other_layout[0].first.shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(difference.other_layout[0].second.shape, (std::vector<std::int64_t>{4}));
  EXPECT_EQ(difference.only_first, std::vector<std::string>{"ids"});
  EXPECT_EQ(difference.only_second, std::vector<std::string>{"new"});
}

TEST_F(Differences, values_are_compared_with_their_type) {
  const auto first = saved(tree_, 1);
  base::StateTree other;
  other.add({"A", base::DType::f32, {2, 2}, a_.data(), 0});
  other.add({"ids", base::DType::i64, {2}, ids_.data(), 0});
  other.set("rate", 0.25);
  other.set("count", std::int64_t{3});
  const auto difference = compare(first, saved(other, 2));
  EXPECT_TRUE(difference.same_layout());
  ASSERT_EQ(difference.values.size(), 3U);
  const auto& [before, after] = difference.values.at("rate");
  EXPECT_EQ(std::get<double>(before.value()), 0.5);
  EXPECT_EQ(std::get<double>(after.value()), 0.25);
  EXPECT_FALSE(difference.values.at("count").first.has_value());
  EXPECT_FALSE(difference.values.at("words").second.has_value());
}

TEST_F(Differences, a_damaged_dataset_is_refused_by_name) {
  const auto first = saved(tree_, 1);
  const auto second = saved(tree_, 2);
  const auto record = read_manifest(folder_ / folder_name(2)).datasets.at("A");
  flip_bit(folder_ / folder_name(2) / kDataName, record.stored.at(0).extent.offset, 0);
  EXPECT_THROW((void)compare(first, second), base::ContentError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
