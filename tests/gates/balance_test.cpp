#include "src/gates/balance.h"

#include "src/gates/router.h"
#include "tests/gates/example_statistics.h"
#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

/// Slope of value() along entry u.
double balance_slope(const std::function<double(std::span<const double>)>& value, std::size_t u) {
  auto above = kUneven;
  auto below = kUneven;
  above[u] += 1e-6;
  below[u] -= 1e-6;
  return (value(above) - value(below)) / 2e-6;
}

TEST(BalanceTerm, gradients_are_the_slopes) {
  for (const auto& term :
       {load_entropy(kFour, -0.7), mean_entropy(kFour, 1.3), mean_entropy_p(kFour, 0.4),
        squared_variation(kFour, 0.6), mutual_information(kFour, -0.8)}) {
    const auto kappa = term->gradient(kUneven);
    ASSERT_EQ(kappa.size(), kUneven.size());
    for (std::size_t u = 0; u + 1 < kUneven.size(); ++u) {  // the number of units is constant
      EXPECT_NEAR(kappa[u], balance_slope([&](auto s) { return term->value(s); }, u), 1e-8) << u;
    }
  }
}

TEST(BalanceTerm, the_shares_of_switch_are_constants) {
  const auto term = switch_balance(kFour, 0.3);
  const auto kappa = term->gradient(kUneven);
  for (std::size_t u = 0; u < 4; ++u) {
    EXPECT_NEAR(kappa[u], balance_slope([&](auto s) { return term->value(s); }, u), 1e-8) << u;
  }
  for (std::size_t u = 4; u < kappa.size(); ++u) EXPECT_EQ(kappa[u], 0);
}

TEST(BalanceTerm, values_are_their_definitions) {
  EXPECT_DOUBLE_EQ(load_entropy(kFour, 2)->value(kEven), 2 * std::log(4.0));
  EXPECT_DOUBLE_EQ(mean_entropy(kFour, 2)->value(kUneven), 2 * 0.525);
  // E * sum_e f_e P_e is 1 where use is even.
  EXPECT_DOUBLE_EQ(switch_balance(kFour, 3)->value(kEven), 3);
  EXPECT_DOUBLE_EQ(switch_balance(kFour, 1)->value(kUneven),
                   4 * (0.45 * 0.61 + 0.3 * 0.22 + 0.2 * 0.13 + 0.05 * 0.04));
}

TEST(BalanceTerm, variation_and_information_are_their_definitions) {
  EXPECT_NEAR(squared_variation(kFour, 3)->value(kEven), 0, 1e-15);
  const double cv = load_figures(kUneven, kFour).load_cv;
  EXPECT_NEAR(squared_variation(kFour, 2)->value(kUneven), 2 * cv * cv, 1e-14);
  EXPECT_DOUBLE_EQ(mutual_information(kFour, 2)->value(kUneven),
                   2 * (load_figures(kUneven, kFour).entropy - 0.85));
  // Units that are sure and agree, or that are undecided, tell nothing.
  EXPECT_NEAR(mutual_information(kFour, 1)->value(kCollapsed), 0, 1e-7);
}

TEST(BalanceTerm, the_threshold_form_of_switch_counts_what_exceeds_the_threshold) {
  const StatisticsLayout layout{4, true};
  const Statistics s{6.1, 2.2, 1.3, 0.4, 9, 6, 4, 1, 8.5, 5.25, 1.2, 10};
  const auto term = threshold_balance(layout, 1);
  EXPECT_NEAR(
      term->value(s),
      4 * (0.45 * (0.61 - 0.12) + 0.3 * (0.22 - 0.12) + 0.2 * (0.13 - 0.12) + 0.05 * (0.04 - 0.12)),
      1e-14);
  const auto kappa = term->gradient(s);
  EXPECT_NEAR(kappa[10], -0.4, 1e-15) << "raising every threshold by 1 takes E";
  EXPECT_EQ(kappa[11], 0);
  EXPECT_EQ(kappa[4], 0) << "the shares are constants";
}

TEST(BalanceTerm, a_step_without_units_costs_nothing) {
  const Statistics nothing(11, 0.0);
  for (const auto& term :
       {load_entropy(kFour, 1), mean_entropy(kFour, 1), mean_entropy_p(kFour, 1),
        switch_balance(kFour, 1), squared_variation(kFour, 1), mutual_information(kFour, 1)}) {
    EXPECT_EQ(term->value(nothing), 0);
    EXPECT_EQ(term->gradient(nothing), nothing);
  }
}

TEST(BalanceTerm, an_expert_of_probability_zero_keeps_the_gradient_finite) {
  auto statistics = kCollapsed;
  statistics[3] = 0;
  for (const double kappa : load_entropy(kFour, -1)->gradient(statistics)) {
    EXPECT_TRUE(std::isfinite(kappa));
  }
}

/// Descent in steps of about Adam's size, on logits whose last expert no token selects; `slope`
/// gives the gradient. Returns how many of the 32 tokens select it in the end.
std::int64_t tokens_that_reopen(
    const RouterConfig& config,
    const std::function<at::Tensor(const Selection&, const at::Tensor& logit_UE)>& slope) {
  auto logit_UE = tests::normal({32, 4}, 1).mul_(0.1);
  logit_UE.select(1, 3).sub_(3.0);
  logit_UE.requires_grad_();
  const auto users = [&] {
    return (select(config, logit_UE).w_UE.select(1, 3) > 0).sum().item<std::int64_t>();
  };
  EXPECT_EQ(users(), 0);
  for (int step = 0; step < 60; ++step) {
    const auto grad = slope(select(config, logit_UE), logit_UE);
    logit_UE.detach().sub_(grad / (grad.abs() + 1e-8), 0.1);  // rounding moves nothing
  }
  return users();
}

/// Why the statistics are those of the probability before selection.
TEST(BalanceTerm, at_p_it_reopens_an_unselected_expert_and_at_w_it_cannot) {
  RouterConfig config;
  config.kind = "topk";
  const auto term = load_entropy(kFour, -1);
  const auto at_p = [&](const Selection& selection, const at::Tensor& logit_UE) {
    const auto statistics = statistics_of(config, selection);
    const std::span<const double> s(statistics.const_data_ptr<double>(), 11);
    return tests::gradients({statistics}, {tests::reals(term->gradient(s))}, {logit_UE})[0];
  };
  const auto at_gates = [&](const at::Tensor& w_UE, const at::Tensor& logit_UE) {
    auto statistics = at::zeros({11}, at::kDouble);
    statistics.narrow(0, 0, 4).copy_(w_UE.detach().sum(0));
    const std::span<const double> s(statistics.const_data_ptr<double>(), 11);
    const auto kappa_E = tests::reals(term->gradient(s)).narrow(0, 0, 4);
    return tests::gradients({w_UE.sum(0)}, {kappa_E}, {logit_UE})[0];
  };
  const auto at_w = [&](const Selection& selection, const at::Tensor& logit_UE) {
    const auto grad = at_gates(selection.w_UE, logit_UE);
    EXPECT_LT(grad.select(1, 3).abs().max().item<double>(), 1e-15);
    return grad;
  };
  config.top_k = 2;
  EXPECT_GT(tokens_that_reopen(config, at_p), 8);
  EXPECT_EQ(tokens_that_reopen(config, at_w), 0);
  // One active expert, renormalised: its gate is 1, and no expert hears anything.
  config.top_k = 1;
  EXPECT_GT(tokens_that_reopen(config, at_p), 4);
  EXPECT_EQ(tokens_that_reopen(config,
                               [&](const Selection& selection, const at::Tensor& logit_UE) {
                                 const auto w_UE = selection.w_UE / selection.w_UE.sum(1, true);
                                 const auto grad = at_gates(w_UE, logit_UE);
                                 EXPECT_LT(grad.abs().max().item<double>(), 1e-12);
                                 return grad;
                               }),
            0);
}

}  // namespace
}  // namespace dfmoa::gates
