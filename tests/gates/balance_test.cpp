#include "src/gates/balance.h"

#include <cstring>

#include "src/gates/router.h"
#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

using Statistics = std::vector<double>;

constexpr StatisticsLayout kFour{4};
const Statistics kUneven{6.1, 2.2, 1.3, 0.4, 9, 6, 4, 1, 8.5, 5.25, 10};
const Statistics kCollapsed{10, 1e-9, 1e-9, 1e-9, 10, 0, 0, 0, 1e-7, 1e-7, 10};
const Statistics kEven{2.5, 2.5, 2.5, 2.5, 5, 5, 5, 5, 13.8, 6.9, 10};

RouterConfig balance_config(const std::string& entropy) {
  RouterConfig config;
  config.entropy = entropy;
  return config;
}

/// Slope of value() along entry u.
double balance_slope(const std::function<double(std::span<const double>)>& value, std::size_t u) {
  auto above = kUneven;
  auto below = kUneven;
  above[u] += 1e-6;
  below[u] -= 1e-6;
  return (value(above) - value(below)) / 2e-6;
}

TEST(BalanceTerm, gradients_are_the_slopes) {
  for (const auto& term : {load_entropy(kFour, -0.7), mean_entropy(kFour, 1.3)}) {
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

TEST(BalanceTerm, a_step_without_units_costs_nothing) {
  const Statistics nothing(11, 0.0);
  for (const auto& term :
       {load_entropy(kFour, 1), mean_entropy(kFour, 1), switch_balance(kFour, 1)}) {
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

TEST(EntropyWeightDual, lambda_rises_while_violated_falls_while_slack_and_stays_in_its_range) {
  EntropyWeight weight(balance_config("dual"), 4);
  EXPECT_DOUBLE_EQ(weight.lambda(), 1e-2);
  double last = weight.lambda();
  for (int step = 0; step < 10; ++step) {
    weight.step(kCollapsed, 0, 0, 0);
    EXPECT_GT(weight.lambda(), last);
    last = weight.lambda();
  }
  // rho rises by 0.2 * (0.9 log E - 0) / log E a step.
  EXPECT_NEAR(last, 1e-2 * std::exp(10 * 0.18), 1e-6);
  for (int step = 0; step < 1000; ++step) weight.step(kCollapsed, 0, 0, 0);
  EXPECT_DOUBLE_EQ(weight.lambda(), 10);
  weight.step(kEven, 0, 0, 0);
  EXPECT_NEAR(weight.lambda(), 10 * std::exp(-0.02), 1e-9);
  for (int step = 0; step < 1000; ++step) weight.step(kEven, 0, 0, 0);
  EXPECT_NEAR(weight.lambda(), 1e-4, 1e-15);
}

/// Load entropy after 30 steps from a collapsed router whose loss pulls it to expert 0. The kappa
/// of the term is the seed of the statistics vector, as in a training step.
double entropy_against_a_pull(const std::string& kind) {
  EntropyWeight weight(balance_config(kind), 4);
  auto logit_UE = tests::normal({32, 4}, 1).mul_(0.1);
  logit_UE.select(1, 0).add_(5.0);
  logit_UE.requires_grad_();
  double entropy = 0;
  for (int step = 0; step < 30; ++step) {
    const auto selection = select({}, logit_UE);
    const auto statistics = statistics_of(selection);
    const std::span<const double> s(statistics.const_data_ptr<double>(), 11);
    entropy = load_figures(s, kFour).entropy;
    if (step == 0) {
      EXPECT_LT(entropy, 0.2);
    }
    const auto pull = selection.p_UE.select(1, 0).mean() * -0.02;
    const auto grad =
        tests::gradients({statistics, pull}, {tests::reals(weight.gradient(s)), {}}, {logit_UE})[0];
    logit_UE.detach().sub_(grad.sign() * 0.2);  // the size of an Adam step
    weight.step(s, 0, 0, 0);
  }
  return entropy;
}

TEST(EntropyWeightDual, brings_a_collapsed_router_back_within_thirty_steps) {
  EXPECT_GT(entropy_against_a_pull("dual"), 0.9 * std::log(4.0));
  EXPECT_LT(entropy_against_a_pull("fixed"), 1.0) << "a weight that does not grow is too weak";
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
    const auto statistics = statistics_of(selection);
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

TEST(EntropyWeightFixed, lambda_never_moves) {
  EntropyWeight weight(balance_config("fixed"), 4);
  for (int step = 0; step < 10; ++step) weight.step(kCollapsed, 0.1, 0.9, 0.999);
  EXPECT_DOUBLE_EQ(weight.lambda(), 1e-2);
  EXPECT_FALSE(weight.summed());
  EXPECT_DOUBLE_EQ(weight.value(kEven), -1e-2 * std::log(4.0));
}

/// dL/dtheta = -H <= 0: the weight only grows and the loss has no minimum.
TEST(EntropyWeightLiteral, lambda_runs_away) {
  EntropyWeight weight(balance_config("literal"), 4);
  EXPECT_TRUE(weight.summed());
  const double first = weight.value(kUneven);
  EXPECT_DOUBLE_EQ(first, -1e-2 * 0.525);
  double last = weight.lambda();
  for (int step = 0; step < 4000; ++step) {
    weight.step(kUneven, 1e-2, 0.9, 0.999);
    ASSERT_GT(weight.lambda(), last);
    last = weight.lambda();
  }
  EXPECT_NEAR(last, 40, 1);  // one learning rate a step, for ever
  EXPECT_LT(weight.value(kUneven), -20);
}

TEST(EntropyWeightLiteral, it_flattens_every_token_even_where_use_is_even) {
  EntropyWeight weight(balance_config("literal"), 2);
  // Two tokens, each sure of another expert: balanced, and still pushed towards uniform.
  const auto logit_UE = tests::reals({3, 0, 0, 3}).view({2, 2}).requires_grad_();
  const auto push = [&](const EntropyWeight& entropy) {
    const auto statistics = statistics_of(select({}, logit_UE));
    const std::span<const double> s(statistics.const_data_ptr<double>(), 7);
    return tests::gradients({statistics}, {tests::reals(entropy.gradient(s))}, {logit_UE})[0];
  };
  EXPECT_GT(push(weight)[0][0].item<double>(), 1e-5);
  const EntropyWeight dual(balance_config("dual"), 2);
  EXPECT_LT(push(dual).abs().max().item<double>(), 1e-15);
}

TEST(EntropyWeight, switch_joins_the_entropy_term) {
  auto config = balance_config("none");
  config.kind = "topk";
  config.balance = "switch";
  config.balance_weight = 0.5;
  const EntropyWeight alone(config, 4);
  EXPECT_EQ(alone.lambda(), 0);
  EXPECT_DOUBLE_EQ(alone.value(kEven), 0.5);
  config.entropy = "fixed";
  const EntropyWeight both(config, 4);
  EXPECT_DOUBLE_EQ(both.value(kEven), 0.5 - 1e-2 * std::log(4.0));
  const auto kappa = both.gradient(kUneven);
  const auto first = load_entropy(kFour, -1e-2)->gradient(kUneven);
  const auto second = switch_balance(kFour, 0.5)->gradient(kUneven);
  for (std::size_t u = 0; u < kappa.size(); ++u) EXPECT_DOUBLE_EQ(kappa[u], first[u] + second[u]);
}

TEST(EntropyWeight, one_expert_has_nothing_to_balance) {
  EntropyWeight weight(balance_config("dual"), 1);
  const Statistics s{4, 4, 0, 0, 4};
  weight.step(s, 0, 0, 0);
  EXPECT_EQ(weight.lambda(), 0);
  EXPECT_EQ(weight.value(s), 0);
}

TEST(EntropyWeight, its_saved_state_continues_the_run) {
  for (const std::string kind : {"dual", "fixed", "literal"}) {
    EntropyWeight run(balance_config(kind), 4);
    EntropyWeight resumed(balance_config(kind), 4);
    for (int step = 0; step < 5; ++step) run.step(kUneven, 1e-2, 0.9, 0.99);
    base::StateTree from;
    base::StateTree to;
    run.list(from, "layer/3/router/main/entropy");
    resumed.list(to, "layer/3/router/main/entropy");
    const auto& saved = from.entry("layer/3/router/main/entropy");
    ASSERT_EQ(saved.dtype, base::DType::f64);
    ASSERT_EQ(saved.bytes(), to.entry("layer/3/router/main/entropy").bytes());
    std::memcpy(to.entry("layer/3/router/main/entropy").data, saved.data, saved.bytes());
    for (int step = 0; step < 5; ++step) {
      run.step(kUneven, 1e-2, 0.9, 0.99);
      resumed.step(kUneven, 1e-2, 0.9, 0.99);
    }
    EXPECT_EQ(run.lambda(), resumed.lambda()) << kind;
  }
}

}  // namespace
}  // namespace dfmoa::gates
