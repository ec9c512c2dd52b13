// The cut of attention dimensions, by gates and by the weights that they connect.
#include <gtest/gtest.h>

#include "src/train/rank_budget.h"
#include "tests/support/lone_transport.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::train {
namespace {

using model::Transformer;

Transformer gated(const std::string& kind, std::vector<std::string> dimensions = {"qk", "v"}) {
  Transformer model(model::tiny_base({}, at::kDouble));
  auto plan = tests::attention_gates("", kind);
  plan.dfa.dimensions = std::move(dimensions);
  model.adapt(plan, 3);
  return model;
}

model::AdapterPlan budgeted(const std::string& kind, double budget) {
  auto plan = tests::attention_gates("", kind);
  plan.rank_gates["dimensions"].budget = budget;
  return plan;
}

/// 2 layers of 2 KV heads x 2 pairs, and of 4 heads x 4 channels.
TEST(DimensionCut, counts_pairs_for_queries_and_keys_and_channels_for_values) {
  const auto model = gated("hard_concrete");
  EXPECT_EQ(total_rank(model, RankOwner::dimensions), 2 * (2 * 2 + 4 * 4));
  EXPECT_EQ(total_rank(model), 0) << "they are no directions";
  EXPECT_EQ(count_rank(model, RankOwner::dimensions).active, 40);
}

TEST(DimensionCut, removing_shut_dimensions_changes_no_output) {
  auto model = gated("hard_concrete");
  const at::NoGradGuard no_grad;
  for (auto& block : model.blocks()) {
    for (const std::string name : {"dfa/qk/logit", "dfa/v/logit"}) {
      auto leaf = block.parameters().leaf(name);
      leaf.copy_(model::random_normal(leaf.sizes(), 2.5, 4, base::text(block.layer(), name)));
    }
  }
  const auto open = count_rank(model, RankOwner::dimensions).active;
  ASSERT_GT(open, 0);
  ASSERT_LT(open, 40);
  const auto rows = model.pack(model::tiny_row({5, 4}));
  const auto before = model.hidden(rows);
  const auto report = RankBudget(budgeted("hard_concrete", 0), 10, RankOwner::dimensions)
                          .cut(model, *LoneTransport(model));
  EXPECT_EQ(report.before, 40);
  EXPECT_EQ(report.after, open);
  EXPECT_EQ(total_rank(model, RankOwner::dimensions), open);
  const auto scale = before.abs().max().item<double>();
  EXPECT_LE((model.hidden(rows) - before).abs().max().item<double>(), 1e-12 * scale);
}

TEST(DimensionCut, leaves_the_budget_and_keeps_what_is_surest) {
  auto model = gated("hard_concrete", {"v"});
  const at::NoGradGuard no_grad;
  auto& block = model.blocks()[1];
  block.parameters().leaf("dfa/v/logit").narrow(0, 3, 5).add_(1.0);
  (void)RankBudget(budgeted("hard_concrete", 5), 10, RankOwner::dimensions)
      .cut(model, *LoneTransport(model));
  EXPECT_EQ(block.adapters().attention.masks[0].dimension_id_N,
            (std::vector<std::int64_t>{3, 4, 5, 6, 7}));
  EXPECT_EQ(model.blocks()[0].adapters().attention.masks[0].left(), 0);
  EXPECT_TRUE(model.hidden(model.pack(model::tiny_row({4}))).isfinite().all().item<bool>());
}

/// The weights of the dimension, dense and by hand.
TEST(DimensionCut, kind_norm_ranks_by_the_weights_that_a_dimension_connects) {
  for (const std::string name : {"qk", "v"}) {
    auto model = gated("norm", {name});
    EXPECT_EQ(model.trainable_parameters(), 0);
    const auto identity = at::eye(16, at::kDouble);
    std::vector<std::pair<double, std::int64_t>> expected;
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      const auto& linears = model.base().layers[static_cast<std::size_t>(layer)].linears;
      const auto rows_of = [&](std::size_t site) { return linears[site]->forward(identity).t(); };
      const auto q = rows_of(0), k = rows_of(1), v = rows_of(2), o = rows_of(3);
      for (std::int64_t row = 0; row < (name == "qk" ? 2 : 4); ++row) {
        for (std::int64_t c = 0; c < (name == "qk" ? 2 : 4); ++c) {
          const auto norm = [](const at::Tensor& part) { return part.norm().item<double>(); };
          const auto id = layer * 1000 + row * (name == "qk" ? 2 : 4) + c;
          if (name == "v") {
            expected.emplace_back(norm(v[row / 2 * 4 + c]) * norm(o.select(1, row * 4 + c)), id);
            continue;
          }
          const auto queries = at::stack(
              {q[row * 8 + c], q[row * 8 + c + 2], q[row * 8 + 4 + c], q[row * 8 + 4 + c + 2]});
          const auto keys = at::stack({k[row * 4 + c], k[row * 4 + c + 2]});
          expected.emplace_back(norm(queries) * norm(keys), id);
        }
      }
    }
    std::sort(expected.rbegin(), expected.rend());
    (void)RankBudget(budgeted("norm", 3), 10, RankOwner::dimensions)
        .cut(model, *LoneTransport(model));
    std::set<std::int64_t> kept;
    for (const auto& block : model.blocks()) {
      for (const auto id : block.adapters().attention.masks[0].dimension_id_N) {
        kept.insert(block.layer() * 1000 + id);
      }
    }
    EXPECT_EQ(kept, (std::set{expected[0].second, expected[1].second, expected[2].second})) << name;
  }
}

TEST(ProximalGates, die_under_their_penalty_and_only_between_start_and_cut) {
  auto plan = tests::experts_behind("softmax");
  plan.adapters["mix"].rank_gate = "gate";
  plan.rank_gates["gate"].kind = "proximal";
  plan.rank_gates["gate"].strength = 3;
  Transformer model(model::tiny_base({}, at::kDouble));
  model.adapt(plan, 3);
  const RankBudget budget(plan, 100);  // from step 10 to 70
  EXPECT_EQ(budget.learning_rate(9), 0) << "held at 1";
  EXPECT_DOUBLE_EQ(budget.learning_rate(10), 2.0 / 60);
  const auto z = [&] { return model.blocks()[0].parameters().leaf("mlp_out/logit")[0]; };
  budget.shrink_gates(model, 9, *LoneTransport(model));
  budget.shrink_gates(model, 70, *LoneTransport(model));
  EXPECT_EQ(z().item<double>(), 1);
  budget.shrink_gates(model, 10, *LoneTransport(model));
  EXPECT_NEAR(z().item<double>(), 0.9, 1e-15);
  EXPECT_NEAR(budget.penalty(count_rank(model), 10),
              3 * 0.9 * static_cast<double>(total_rank(model)), 1e-9);
  for (int step = 11; step < 30; ++step) budget.shrink_gates(model, step, *LoneTransport(model));
  EXPECT_EQ(count_rank(model).active, 0);
}

}  // namespace
}  // namespace dfmoa::train
