#include "checkpoints/cover.h"

#include <atomic>

#include "checkpoints/writer.h"
#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {
namespace {

std::int64_t number = 5;

std::string refusal_of(base::StateEntry entry) {
  base::StateTree tree;
  tree.add(std::move(entry));
  return sentence_of<base::ContentError>([&] { check_storable(tree, 0, 1); });
}

TEST(Cover, entries_that_cannot_be_stored_are_named) {
  using base::DType;
  for (const int owner : {2, 1, -1}) {
    EXPECT_EQ(
        refusal_of({"a/b", DType::i64, {1}, &number, owner}),
        base::text("saving state a/b: its owner is process ", owner, ", expected one of 0 to 0"));
  }
  EXPECT_NE(refusal_of({"a/b", DType::i64, {}, &number, 0}).find("a/b: its shape is ()"),
            std::string::npos);
  EXPECT_NE(refusal_of({"a/b", DType::i64, {2, -1}, &number, 0}).find("a/b: its shape is (2, -1)"),
            std::string::npos);
  EXPECT_NE(refusal_of({"a/b", DType::i64, {2}, nullptr, 0}).find("asks for 16 bytes"),
            std::string::npos);
}

TEST(Cover, only_the_owner_needs_data) {
  base::StateTree tree;
  tree.add({"a/b", base::DType::i64, {2}, nullptr, 1});
  tree.add({"a/c", base::DType::i64, {0, 2}, nullptr, 2});
  for (const int process : {0, 2}) EXPECT_NO_THROW(check_storable(tree, process, 3));
  EXPECT_EQ(sentence_of<base::ContentError>([&] { check_storable(tree, 1, 3); }),
            "saving state a/b: process 1 owns it and has no data, its shape (2) asks for 16 bytes");
}

TEST(Cover, an_array_that_is_also_a_group_is_refused) {
  base::StateTree tree;
  tree.add({"a", base::DType::i64, {1}, &number, 0});
  tree.add({"a-b", base::DType::i64, {1}, &number, 0});  // sorts between a and a/b
  tree.add({"a/b", base::DType::i64, {1}, &number, 0});
  const auto sentence = sentence_of<base::ContentError>([&] { check_storable(tree, 0, 1); });
  EXPECT_EQ(sentence, "saving state a: it is an array and also the group of a/b");
}

TEST(Cover, values_with_a_reserved_name_or_a_nul_byte_are_refused) {
  for (const std::string name : {kFormatValue, kStepValue, ""}) {
    base::StateTree tree;
    tree.set(name, std::int64_t{1});
    EXPECT_THROW(check_storable(tree, 0, 1), base::ContentError) << name;
  }
  base::StateTree tree;
  tree.set("text", std::string("a\0b", 3));
  EXPECT_THROW(check_storable(tree, 0, 1), base::ContentError);
}

class CoverOfProcesses : public CheckpointFolder {
 protected:
  /// Saves on three processes, each with the tree that `spoil` makes; expects all to be refused.
  template <class Spoil>
  void expect_all_refused(Spoil&& spoil) {
    std::atomic<int> refused = 0;
    comm::run_local(3, [&](comm::Communicator& comm) {
      SmallState state;
      base::StateTree tree;
      for (auto [name, entry] : state.tree().entries()) {
        if (comm.process() == 1) spoil(entry);
        tree.add(entry);
      }
      EXPECT_THROW(save_checkpoint(folder_, tree, 1, comm, {}), base::ContentError);
      ++refused;
    });
    EXPECT_EQ(refused, 3);
    EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "something was written";
  }
};

TEST_F(CoverOfProcesses, another_shape_on_one_process_stops_all) {
  expect_all_refused([](base::StateEntry& entry) {
    if (entry.name == "small/u8") entry.shape = {3, 3};
  });
}

TEST_F(CoverOfProcesses, another_name_on_one_process_stops_all) {
  expect_all_refused([](base::StateEntry& entry) {
    if (entry.name == "small/u8") entry.name = "small/u9";
  });
}

TEST_F(CoverOfProcesses, another_owner_on_one_process_stops_all) {
  expect_all_refused([](base::StateEntry& entry) {
    if (entry.name == "small/u8") entry.owner = 1;
  });
}

/// Process 1 owns an array on all lists, without having it.
TEST_F(CoverOfProcesses, an_owner_without_data_stops_all_and_names_it) {
  std::atomic<int> refused = 0;
  comm::run_local(3, [&](comm::Communicator& comm) {
    SmallState state;
    base::StateTree tree;
    for (auto [name, entry] : state.tree().entries()) {
      if (name == "small/u8") entry = {name, entry.dtype, entry.shape, nullptr, 1};
      tree.add(entry);
    }
    const auto sentence =
        sentence_of<base::ContentError>([&] { save_checkpoint(folder_, tree, 1, comm, {}); });
    EXPECT_TRUE(says(sentence, comm.process() == 1 ? "saving state small/u8: process 1 owns it"
                                                   : "another process refused its state"));
    ++refused;
  });
  EXPECT_EQ(refused, 3);
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "something was written";
}

TEST_F(CoverOfProcesses, an_owner_outside_the_world_stops_all) {
  comm::run_local(3, [&](comm::Communicator& comm) {
    SmallState state;
    base::StateTree tree;
    for (auto [name, entry] : state.tree().entries()) {
      entry.owner = 3;
      tree.add(entry);
    }
    EXPECT_THROW(save_checkpoint(folder_, tree, 1, comm, {}), base::ContentError);
  });
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "something was written";
}

}  // namespace
}  // namespace dfmoa::checkpoints
