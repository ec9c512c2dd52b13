#include "src/adapters/expert_bank.h"

#include <numeric>

#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

SiteBank bank_site(const std::string& name, std::vector<std::int64_t> ranks, std::int64_t column) {
  SiteBank site;
  site.site = name;
  site.rank_E = std::move(ranks);
  site.column = column;
  site.initial_rank = 3;
  site.out_features = 6;
  for (std::int64_t e = 0; e < site.experts(); ++e) {
    for (std::int64_t r = 0; r < site.rank_E[static_cast<std::size_t>(e)]; ++r) {
      site.direction_id_N.push_back(e * site.initial_rank + r);
    }
  }
  return site;
}

GroupBank bank_group(std::vector<SiteBank> sites) {
  GroupBank group;
  group.name = "attention_in";
  group.in_features = 400;
  group.sites = std::move(sites);
  group.index();
  return group;
}

/// A of the one group after initialise.
at::Tensor initial_a(const GroupBank& group, std::uint64_t seed, std::int64_t layer) {
  ParameterSet parameters(adapter_specs({group}), at::kDouble);
  initialise({group}, parameters, seed, layer, 2.4);
  return parameters.leaf("attention_in/A").detach();
}

TEST(ExpertBank, directions_lie_expert_after_expert_and_know_their_column) {
  const auto group = bank_group({bank_site("q", {2, 0, 3}, 0), bank_site("v", {1, 2}, 7)});
  EXPECT_EQ(group.directions(), 8);
  EXPECT_EQ(group.sites[0].begin_of(0), 0);
  EXPECT_EQ(group.sites[0].begin_of(1), 2);
  EXPECT_EQ(group.sites[0].begin_of(2), 2);
  EXPECT_EQ(group.sites[0].begin_of(3), 5);
  EXPECT_EQ(group.sites[0].first, 0);
  EXPECT_EQ(group.sites[1].first, 5);
  EXPECT_TRUE(at::equal(group.column_N, tests::ints({0, 0, 2, 2, 2, 7, 8, 8})));
}

TEST(ExpertBank, parameters_are_named_by_group_and_site) {
  auto group = bank_group({bank_site("q", {2, 0, 3}, 0), bank_site("v", {0}, 3)});
  GroupBank unadapted;
  unadapted.name = "mlp_in";
  const auto specs = adapter_specs({unadapted, group});
  ASSERT_EQ(specs.size(), 3U);
  EXPECT_EQ(specs[0].name, "attention_in/A");
  EXPECT_EQ(specs[0].shape, (std::vector<std::int64_t>{5, 400}));
  EXPECT_EQ(specs[1].name, "attention_in/q/b");
  EXPECT_EQ(specs[1].shape, (std::vector<std::int64_t>{5, 6}));
  EXPECT_EQ(specs[2].name, "attention_in/v/b");
  EXPECT_EQ(specs[2].shape, (std::vector<std::int64_t>{0, 6}));
  EXPECT_TRUE(rank_gate_specs({unadapted, group}).empty());
  group.rank_gated = true;
  const auto gates = rank_gate_specs({unadapted, group});
  ASSERT_EQ(gates.size(), 1U);
  EXPECT_EQ(gates[0].name, "attention_in/logit");
  EXPECT_EQ(gates[0].shape, (std::vector<std::int64_t>{5}));
  EXPECT_EQ(gates[0].group, ParameterGroup::rank_gate);
}

TEST(ExpertBank, a_is_kaiming_uniform_b_is_zero_and_logits_are_at_their_start) {
  auto group = bank_group({bank_site("q", {3, 3}, 0)});
  group.rank_gated = true;
  auto specs = adapter_specs({group});
  for (const auto& spec : rank_gate_specs({group})) specs.push_back(spec);
  ParameterSet parameters(specs, at::kDouble);
  initialise({group}, parameters, 1, 0, 2.4);
  const auto a = parameters.leaf("attention_in/A").detach();
  const double bound = 1 / std::sqrt(400.0);
  EXPECT_LT(a.abs().max().item<double>(), bound);
  EXPECT_GT(a.max().item<double>(), 0.99 * bound);
  EXPECT_LT(a.min().item<double>(), -0.99 * bound);
  EXPECT_NEAR(a.square().mean().item<double>() / (bound * bound), 1.0 / 3, 0.03);
  EXPECT_NEAR(a.mean().item<double>() / bound, 0, 0.05);
  EXPECT_EQ(parameters.leaf("attention_in/q/b").abs().max().item<double>(), 0);
  EXPECT_TRUE(at::equal(parameters.leaf("attention_in/logit"), at::full({6}, 2.4, at::kDouble)));
}

TEST(ExpertBank, initial_rows_depend_on_seed_layer_site_and_direction_alone) {
  const auto q = bank_site("q", {3, 3}, 0);
  const auto v = bank_site("v", {3, 3}, 2);
  const auto alone = initial_a(bank_group({v}), 1, 4);
  const auto beside_q = initial_a(bank_group({q, v}), 1, 4);
  EXPECT_TRUE(at::equal(beside_q.narrow(0, 6, 6), alone));
  EXPECT_FALSE(at::equal(beside_q.narrow(0, 0, 6), alone));
  EXPECT_FALSE(at::equal(initial_a(bank_group({v}), 2, 4), alone));
  EXPECT_FALSE(at::equal(initial_a(bank_group({v}), 1, 5), alone));
  EXPECT_FALSE(at::equal(alone[0], alone[1]));
}

TEST(ExpertBank, a_shrunk_bank_names_its_rows_by_their_ids) {
  const auto whole = initial_a(bank_group({bank_site("q", {3, 3}, 0)}), 1, 0);
  auto shrunk = bank_site("q", {1, 2}, 0);
  shrunk.direction_id_N = {2, 3, 5};
  const auto rows = initial_a(bank_group({shrunk}), 1, 0);
  EXPECT_TRUE(at::equal(rows, whole.index_select(0, torch::tensor({2, 3, 5}))));
}

TEST(ExpertBank, an_fp32_bank_holds_the_rounded_fp64_values) {
  const auto group = bank_group({bank_site("q", {3}, 0)});
  ParameterSet parameters(adapter_specs({group}), at::kFloat);
  initialise({group}, parameters, 1, 0, 2.4);
  EXPECT_TRUE(
      at::equal(parameters.leaf("attention_in/A").detach(), initial_a(group, 1, 0).to(at::kFloat)));
}

TEST(ExpertBank, experts_of_a_shared_a_have_its_rows_once) {
  auto shared = bank_site("q", {3, 3}, 0);
  shared.shared_a = true;
  const auto group = bank_group({shared, bank_site("v", {1, 2}, 7)});
  EXPECT_EQ(group.directions(), 9);
  EXPECT_EQ(group.a_rows(), 6);
  EXPECT_EQ(group.sites[0].a_begin_of(1), 0);
  EXPECT_EQ(group.sites[1].first, 6);
  EXPECT_EQ(group.sites[1].a_begin_of(1), 4);
  EXPECT_EQ(adapter_specs({group})[0].shape, (std::vector<std::int64_t>{6, 400}));
  EXPECT_EQ(adapter_specs({group})[1].shape, (std::vector<std::int64_t>{6, 6}));
  // The rows of A are those of the first expert alone.
  const auto alone = bank_group({bank_site("q", {3}, 0)});
  EXPECT_TRUE(at::equal(initial_a(group, 1, 0).narrow(0, 0, 3), initial_a(alone, 1, 0)));
}

TEST(ExpertBank, experts_that_are_not_kept_have_no_directions_and_keep_their_place) {
  auto group = bank_group({bank_site("q", {2, 1, 3}, 4), bank_site("v", {1, 0, 2}, 4)});
  for (auto& site : group.sites) {
    site.keep_experts([](std::int64_t expert) { return expert != 1; });
  }
  group.index();
  EXPECT_EQ(group.sites[0].rank_E, (std::vector<std::int64_t>{2, 0, 3}));
  EXPECT_EQ(group.sites[0].direction_id_N, (std::vector<std::int64_t>{0, 1, 6, 7, 8}));
  EXPECT_EQ(group.sites[1].direction_id_N, (std::vector<std::int64_t>{0, 6, 7}));
  EXPECT_EQ(group.sites[0].experts(), 3);
  EXPECT_TRUE(at::equal(group.column_N, tests::ints({4, 4, 6, 6, 6, 4, 6, 6})));
  for (auto& site : group.sites) {
    site.keep_experts([](std::int64_t) { return false; });
    EXPECT_EQ(site.directions(), 0);
    EXPECT_EQ(site.rank_E, (std::vector<std::int64_t>{0, 0, 0}));
  }
}

/// A process that holds some experts alone begins with the rows that the whole would have there.
TEST(ExpertBank, kept_experts_begin_as_in_the_whole_bank) {
  const auto whole = bank_group({bank_site("q", {3, 3, 3}, 0)});
  auto part = whole;
  part.sites[0].keep_experts([](std::int64_t expert) { return expert == 1; });
  part.index();
  EXPECT_TRUE(at::equal(initial_a(part, 5, 2), initial_a(whole, 5, 2).narrow(0, 3, 3)));
}

TEST(ExpertBank, kept_experts_of_a_shared_a_keep_all_of_its_rows) {
  auto site = bank_site("q", {3, 3, 3}, 0);
  site.shared_a = true;
  EXPECT_EQ(site.sharers(), 3);
  site.keep_experts([](std::int64_t expert) { return expert == 2; });
  EXPECT_EQ(site.a_rows(), 3);
  EXPECT_EQ(site.sharers(), 1);
  EXPECT_EQ(site.a_begin_of(2), site.a_first);
}

}  // namespace
}  // namespace dfmoa::adapters
