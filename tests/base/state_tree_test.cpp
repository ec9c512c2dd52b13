#include "src/base/state_tree.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

using namespace dfmoa::base;

TEST(StateTree, entries_come_in_name_order_with_their_sizes) {
  StateTree tree;
  float data[6] = {};
  tree.add({"layer/1/q/b", DType::f32, {2, 3}, data, 0});
  tree.add({"layer/0/q/a", DType::f32, {0, 3}, nullptr, 1});
  EXPECT_EQ(tree.entries().begin()->first, "layer/0/q/a");
  EXPECT_EQ(tree.entry("layer/1/q/b").bytes(), 24U);
  EXPECT_EQ(tree.entry("layer/0/q/a").bytes(), 0U);
}

TEST(StateTree, refuses_doubles_bad_paths_and_wrong_types) {
  StateTree tree;
  tree.add({"a", DType::f32, {0}, nullptr, 0});
  EXPECT_THROW(tree.add({"a", DType::f32, {0}, nullptr, 0}), ContentError);
  for (const char* name : {"", "/a", "a/", "a//b", "a/../b"}) {
    EXPECT_THROW(tree.add({name, DType::f32, {0}, nullptr, 0}), ContentError) << name;
  }
  tree.set("step", std::int64_t{4});
  EXPECT_EQ(tree.integer("step"), 4);
  EXPECT_THROW((void)tree.real("step"), ContentError);
  EXPECT_THROW((void)tree.text("none"), ContentError);
  EXPECT_THROW((void)tree.entry("none"), ContentError);
}
