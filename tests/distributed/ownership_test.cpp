#include "distributed/ownership.h"

#include <numeric>

#include "src/base/error.h"
#include "tests/distributed/small_banks.h"
#include "tests/support/tensors.h"

namespace dfmoa::distributed {
namespace {

using tests::contains;
using tests::refusal;

ParallelConfig owned_as(std::vector<std::string> owners,
                        std::vector<std::string> head_owners = {"default"}) {
  ParallelConfig config;
  config.owners = std::move(owners);
  config.head_owners = std::move(head_owners);
  return config;
}

/// Owners of the experts of adapter `mix`, in their order.
std::vector<int> of_experts(const BlockOwners& owners, std::int64_t experts) {
  std::vector<int> all;
  for (std::int64_t e = 0; e < experts; ++e) all.push_back(owners.units.at(base::text("mix/", e)));
  return all;
}

TEST(OwnedUnits, an_expert_is_owned_with_its_rows_in_all_linears) {
  WholeModel model(mixed_plan());
  const auto units = units_of(model.banks(), model.shape());
  ASSERT_EQ(units.size(), 4U);
  // Directions of q (16 -> 16), v (16 -> 8) and down (24 -> 16), each with a rank gate.
  const std::int64_t of_expert = 2 * (16 + 16 + 1) + 2 * (16 + 8 + 1) + 2 * (24 + 16 + 1);
  for (std::size_t e = 0; e < 3; ++e) {
    EXPECT_EQ(units[e].name, base::text("mix/", e));
    EXPECT_EQ(units[e].parameters, of_expert);
  }
  EXPECT_EQ(units[3].name, "parallel/side");
  EXPECT_GT(units[3].parameters, 2 * 3 * 16 - 1);
}

TEST(OwnedUnits, a_linear_with_gates_of_its_own_has_experts_of_its_own) {
  WholeModel model(tests::heterogeneous("sigmoid"));
  std::vector<std::string> names;
  for (const auto& unit : units_of(model.banks(), model.shape())) names.push_back(unit.name);
  EXPECT_EQ(names, (std::vector<std::string>{"lora/q/0", "lora/k/0", "lora/v/0", "lora/o/0",
                                             "lora/down/0", "parallel/parallel", "prompt/prompt"}));
}

TEST(OwnedUnits, rows_of_a_that_experts_share_belong_to_none_of_them) {
  auto plan = tests::experts_behind("softmax", 2);
  plan.adapters["mix"].sites = {"q"};
  plan.adapters["mix"].shared_a = true;
  WholeModel model(plan);
  EXPECT_EQ(units_of(model.banks(), model.shape())[0].parameters, 2 * 16);
}

TEST(Ownership, by_default_all_get_experts_in_turn_and_layers_go_on) {
  WholeModel model(tests::experts_behind("softmax", 3));
  Ownership ownership({}, 2);
  EXPECT_EQ(of_experts(ownership.choose(model.banks(), model.shape(), 0), 3),
            (std::vector<int>{0, 1, 0}));
  EXPECT_EQ(of_experts(ownership.choose(model.banks(), model.shape(), 1), 3),
            (std::vector<int>{1, 0, 1}));
  EXPECT_EQ(of_experts(ownership.of(0), 3), (std::vector<int>{0, 1, 0}));
  EXPECT_EQ(ownership.of(0).head_H, (std::vector<int>{0, 1, 0, 1}));
  Ownership of_three({}, 3);
  EXPECT_EQ(of_three.choose(model.banks(), model.shape(), 1).head_H,
            (std::vector<int>{1, 2, 0, 1}));
}

TEST(Ownership, with_more_processes_than_experts_some_own_none_of_a_layer) {
  WholeModel model(tests::experts_behind("softmax", 3));
  Ownership ownership({}, 4);
  EXPECT_EQ(of_experts(ownership.choose(model.banks(), model.shape(), 0), 3),
            (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(of_experts(ownership.choose(model.banks(), model.shape(), 1), 3),
            (std::vector<int>{3, 0, 1}));
}

TEST(Ownership, balanced_gives_the_largest_to_whom_has_least) {
  auto plan = tests::experts_behind("softmax", 4);
  plan.adapters["mix"].sites = {"q"};
  WholeModel model(plan);
  auto banks = model.banks();
  auto& site = banks.groups[0].sites[0];
  site.rank_E = {1, 4, 2, 2};  // as a rank cut leaves them
  site.direction_id_N.resize(9);
  Ownership ownership(owned_as({"balanced"}), 2);
  // 4 to the first, 2 and 2 to the second, 1 to the first of equals.
  EXPECT_EQ(of_experts(ownership.choose(banks, model.shape(), 0), 4),
            (std::vector<int>{0, 0, 1, 1}));
  // The first now has 5 and the second 4: the next layer begins with the second.
  EXPECT_EQ(of_experts(ownership.choose(banks, model.shape(), 1), 4),
            (std::vector<int>{1, 1, 0, 0}));
  ownership.clear();
  EXPECT_EQ(of_experts(ownership.choose(banks, model.shape(), 0), 4),
            (std::vector<int>{0, 0, 1, 1}));
}

TEST(Ownership, listed_owners_are_taken_as_they_stand_in_every_layer) {
  WholeModel model(tests::experts_behind("softmax", 3));
  Ownership ownership(owned_as({"1", "1", "1"}, {"1", "0", "0", "0"}), 2);
  for (const std::int64_t layer : {0, 1}) {
    const auto& owners = ownership.choose(model.banks(), model.shape(), layer);
    EXPECT_EQ(of_experts(owners, 3), (std::vector<int>{1, 1, 1}));
    EXPECT_EQ(owners.head_H, (std::vector<int>{1, 0, 0, 0}));
  }
}

TEST(Ownership, one_owner_of_another_unit_or_head_is_another_hash) {
  WholeModel model(tests::experts_behind("softmax", 3));
  const auto hash_of = [&](const ParallelConfig& config) {
    Ownership ownership(config, 2);
    (void)ownership.choose(model.banks(), model.shape(), 0);
    return ownership.hash();
  };
  const auto hash = hash_of(owned_as({"0", "1", "0"}, {"0", "1", "0", "1"}));
  EXPECT_EQ(hash, hash_of(owned_as({"default"})));
  EXPECT_NE(hash, hash_of(owned_as({"0", "1", "1"})));
  EXPECT_NE(hash, hash_of(owned_as({"default"}, {"0", "1", "1", "1"})));
}

TEST(Ownership, a_list_of_another_length_is_refused) {
  WholeModel model(tests::experts_behind("softmax", 3));
  Ownership short_list(owned_as({"1", "0"}), 2);
  auto sentence =
      refusal<base::UsageError>([&] { (void)short_list.choose(model.banks(), model.shape(), 1); });
  EXPECT_TRUE(contains(sentence, "parallel.owners lists 2 owners")) << sentence;
  EXPECT_TRUE(contains(sentence, "the 3 experts and adapters of layer 1")) << sentence;
  Ownership heads(owned_as({"default"}, {"0", "1", "0"}), 2);
  sentence =
      refusal<base::UsageError>([&] { (void)heads.choose(model.banks(), model.shape(), 0); });
  EXPECT_TRUE(contains(sentence, "parallel.head_owners lists 3 owners")) << sentence;
  EXPECT_TRUE(contains(sentence, "each of the 4 heads")) << sentence;
}

/// q and k share a mask per head of keys: its gates lie with the first query head that reads it.
TEST(BlockOwners, a_gate_that_query_heads_share_lies_with_the_first_of_them) {
  WholeModel model(mixed_plan());
  BlockOwners owners;
  owners.head_H = {0, 1, 2, 3};
  for (const auto& mask : model.banks().attention.masks) {
    const auto queries = 4 / mask.rows;
    for (const auto id : mask.dimension_id_N) {
      EXPECT_EQ(owners.of_dimension(mask, id), id / mask.channels * queries) << mask.name;
    }
  }
}

}  // namespace
}  // namespace dfmoa::distributed
