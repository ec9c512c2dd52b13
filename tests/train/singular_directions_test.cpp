#include "src/train/singular_directions.h"

#include <gtest/gtest.h>

#include "src/train/rank_budget.h"
#include "tests/support/lone_transport.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::train {
namespace {

using tests::distance;

/// Two linears that share their input, two experts each, of kind svd; `fixed` has no rank gate.
model::AdapterPlan experts_to_turn(double budget = 0) {
  model::AdapterPlan plan;
  auto& adapter = plan.adapters["mix"];
  adapter.sites = {"gate", "up", "down"};
  adapter.experts = 2;
  adapter.rank = 3;
  adapter.router = "main";
  adapter.rank_gate = "cut";
  plan.routers["main"] = {};
  plan.rank_gates["cut"].kind = "svd";
  plan.rank_gates["cut"].budget = budget;
  plan.adapters["fixed"].sites = {"o"};
  plan.adapters["fixed"].experts = 1;
  plan.adapters["fixed"].rank = 2;
  return plan;
}

model::Transformer turned_model(const model::AdapterPlan& plan) {
  model::TinyShape shape;
  shape.layers = 2;
  model::Transformer model(model::tiny_base(shape, at::kDouble));
  model.adapt(plan, 3);
  model::stir(model, 0.3, 5);
  return model;
}

/// a and b of every expert with a rank gate, in the order of the model.
struct ExpertRows {
  at::Tensor a_RD, b_RF;
};
std::vector<ExpertRows> experts_of(const model::Transformer& model) {
  std::vector<ExpertRows> all;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      for (const auto& site : group.sites) {
        for (std::int64_t e = 0; !site.rank_gate.empty() && e < site.experts(); ++e) {
          const auto rank = site.rank_E[static_cast<std::size_t>(e)];
          all.push_back(
              {block.parameters().leaf(group.name + "/A").narrow(0, site.a_begin_of(e), rank),
               block.parameters()
                   .leaf(group.name + "/" + site.site + "/b")
                   .narrow(0, site.begin_of(e), rank)});
        }
      }
    }
  }
  return all;
}

std::vector<at::Tensor> updates_of(const model::Transformer& model) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> all;
  for (const auto& expert : experts_of(model)) all.push_back(at::mm(expert.b_RF.t(), expert.a_RD));
  return all;
}

TEST(SingularDirections, keep_the_update_and_carry_a_singular_value_each) {
  const at::NoGradGuard no_grad;
  auto model = turned_model(experts_to_turn());
  const auto fixed = model.blocks()[1].parameters().leaf("attention_out/A").clone();
  const auto before = updates_of(model);
  to_singular_directions(model);
  const auto after = updates_of(model);
  const auto experts = experts_of(model);
  ASSERT_EQ(before.size(), 12U);
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_LT(distance(before[i], after[i]), 1e-12);
    const auto s = at::linalg_svdvals(before[i]).narrow(0, 0, 3);
    EXPECT_LT(distance(at::mm(experts[i].a_RD, experts[i].a_RD.t()), s.diag()), 1e-12);
    EXPECT_LT(distance(at::mm(experts[i].b_RF, experts[i].b_RF.t()), s.diag()), 1e-12);
  }
  EXPECT_TRUE(at::equal(model.blocks()[1].parameters().leaf("attention_out/A"), fixed));
}

/// If the first moment was the gradient before, it is the gradient after.
TEST(SingularDirections, turn_the_first_moment_as_gradients_turn) {
  auto model = turned_model(experts_to_turn());
  const auto rows = model.pack(model::tiny_row({5, 6}));
  auto& block = model.blocks()[0];
  const auto gradients = [&] {
    const auto x_TD = model.embed(rows);
    const auto y_TD = block.forward(x_TD, {rows, {}}).y_TD;
    return torch::autograd::grad({y_TD.square().mean()}, block.parameters().leaves());
  };
  const auto first = gradients();
  for (std::size_t i = 0; i < first.size(); ++i) {
    block.parameters().moment1(i).copy_(first[i]);
    block.parameters().moment2(i).fill_(1.0);
  }
  to_singular_directions(model);
  const auto second = gradients();
  for (std::size_t i = 0; i < second.size(); ++i) {
    EXPECT_LT(distance(block.parameters().moment1(i), second[i]), 1e-10)
        << block.parameters().specs()[i].name;
    EXPECT_GE(block.parameters().moment2(i).min().item<double>(), 0);
  }
}

/// The cut drops the smallest singular values of the whole model.
TEST(SingularDirections, a_cut_leaves_the_best_approximation_of_its_budget) {
  const at::NoGradGuard no_grad;
  const auto plan = experts_to_turn(14);
  auto model = turned_model(plan);
  const auto before = updates_of(model);
  std::vector<at::Tensor> values;
  for (const auto& update : before) values.push_back(at::linalg_svdvals(update).narrow(0, 0, 3));
  const auto sorted = std::get<0>(at::cat(values).sort(0, /*descending=*/true));
  const auto report = RankBudget(plan, 10).cut(model, *LoneTransport(model));
  EXPECT_EQ(report.before, 36);
  EXPECT_EQ(report.after, 14);
  double error = 0;
  const auto after = updates_of(model);
  for (std::size_t i = 0; i < before.size(); ++i) {
    error += (before[i] - after[i]).square().sum().item<double>();
  }
  EXPECT_NEAR(error, sorted.narrow(0, 14, 22).square().sum().item<double>(), 1e-12);
}

TEST(SingularDirections, leave_what_has_no_update_and_empty_what_it_does_not_need) {
  const at::NoGradGuard no_grad;
  auto model = turned_model(experts_to_turn());
  auto experts = experts_of(model);
  experts[0].b_RF.zero_();
  experts[1].b_RF[2].copy_(experts[1].b_RF[0]);  // one direction would do
  experts[1].b_RF[1].copy_(experts[1].b_RF[0] * 2);
  const auto a = experts[0].a_RD.clone();
  const auto update = updates_of(model)[1];
  to_singular_directions(model);
  EXPECT_TRUE(at::equal(experts[0].a_RD, a));
  EXPECT_LT(distance(updates_of(model)[1], update), 1e-12);
  EXPECT_GT(experts[1].a_RD[0].abs().max().item<double>(), 0);
  EXPECT_EQ(experts[1].a_RD.narrow(0, 1, 2).abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace dfmoa::train
