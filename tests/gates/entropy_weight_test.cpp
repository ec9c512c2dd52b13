#include "src/gates/entropy_weight.h"

#include <cstring>

#include "src/gates/router.h"
#include "tests/gates/example_statistics.h"
#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

RouterConfig entropy_config(const std::string& entropy) {
  RouterConfig config;
  config.entropy = entropy;
  return config;
}

TEST(EntropyWeightDual, lambda_rises_while_violated_falls_while_slack_and_stays_in_its_range) {
  EntropyWeight weight(entropy_config("dual"), 4);
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
  EntropyWeight weight(entropy_config(kind), 4);
  auto logit_UE = tests::normal({32, 4}, 1).mul_(0.1);
  logit_UE.select(1, 0).add_(5.0);
  logit_UE.requires_grad_();
  double entropy = 0;
  for (int step = 0; step < 30; ++step) {
    const auto selection = select({}, logit_UE);
    const auto statistics = statistics_of({}, selection);
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

TEST(EntropyWeightFixed, lambda_never_moves) {
  EntropyWeight weight(entropy_config("fixed"), 4);
  for (int step = 0; step < 10; ++step) weight.step(kCollapsed, 0.1, 0.9, 0.999);
  EXPECT_DOUBLE_EQ(weight.lambda(), 1e-2);
  EXPECT_FALSE(weight.summed());
  EXPECT_DOUBLE_EQ(weight.value(kEven), -1e-2 * std::log(4.0));
}

/// dL/dtheta = -H <= 0: the weight only grows and the loss has no minimum.
TEST(EntropyWeightLiteral, lambda_runs_away) {
  EntropyWeight weight(entropy_config("literal"), 4);
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
  EntropyWeight weight(entropy_config("literal"), 2);
  // Two tokens, each sure of another expert: balanced, and still pushed towards uniform.
  const auto logit_UE = tests::reals({3, 0, 0, 3}).view({2, 2}).requires_grad_();
  const auto push = [&](const EntropyWeight& entropy) {
    const auto statistics = statistics_of({}, select({}, logit_UE));
    const std::span<const double> s(statistics.const_data_ptr<double>(), 7);
    return tests::gradients({statistics}, {tests::reals(entropy.gradient(s))}, {logit_UE})[0];
  };
  EXPECT_GT(push(weight)[0][0].item<double>(), 1e-5);
  const EntropyWeight dual(entropy_config("dual"), 2);
  EXPECT_LT(push(dual).abs().max().item<double>(), 1e-15);
}

TEST(EntropyWeight, switch_joins_the_entropy_term) {
  auto config = entropy_config("none");
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
  EntropyWeight weight(entropy_config("dual"), 1);
  const Statistics s{4, 4, 0, 0, 4};
  weight.step(s, 0, 0, 0);
  EXPECT_EQ(weight.lambda(), 0);
  EXPECT_EQ(weight.value(s), 0);
}

TEST(EntropyWeight, its_saved_state_continues_the_run) {
  for (const std::string kind : {"dual", "fixed", "literal"}) {
    EntropyWeight run(entropy_config(kind), 4);
    EntropyWeight resumed(entropy_config(kind), 4);
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

TEST(EntropyWeightFixed, of_units_is_the_sum_over_routers_of_their_mean_entropy) {
  auto config = entropy_config("fixed");
  config.entropy_of = "unit";
  const EntropyWeight weight(config, 4);
  EXPECT_TRUE(weight.summed());
  EXPECT_DOUBLE_EQ(weight.value(kUneven), -1e-2 * 0.525);
}

/// H(w) of selected gates has no gradient: the term would do nothing.
TEST(EntropyWeightFixed, of_units_is_of_the_distribution_that_gates_are_selected_from) {
  auto config = entropy_config("fixed");
  config.entropy_of = "unit";
  for (const std::string kind : {"topk", "topk_literal", "threshold"}) {
    config.kind = kind;
    const auto logit_UE = tests::normal_leaf({5, 4}, 1);
    const auto threshold_U1 = kind == "threshold" ? at::zeros({5, 1}, at::kDouble) : at::Tensor();
    const auto statistics = statistics_of(config, select(config, logit_UE, threshold_U1));
    const std::span<const double> s(statistics.const_data_ptr<double>(),
                                    static_cast<std::size_t>(statistics.numel()));
    const EntropyWeight weight(config, 4);
    const auto p_UE = at::softmax(logit_UE, 1);
    const auto entropy = -(p_UE * p_UE.log()).sum(1).mean();
    EXPECT_NEAR(weight.value(s), -1e-2 * entropy.item<double>(), 1e-15) << kind;
    const auto grad =
        tests::gradients({statistics}, {tests::reals(weight.gradient(s))}, {logit_UE})[0];
    const auto expected =
        tests::gradients({entropy}, {at::full({}, -1e-2, at::kDouble)}, {logit_UE});
    EXPECT_LT(tests::distance(grad, expected[0]), 1e-15) << kind;
    EXPECT_GT(grad.abs().max().item<double>(), 1e-5) << kind;
  }
}

TEST(EntropyWeightConfidence, holds_the_entropy_of_a_unit_below_its_target) {
  auto config = entropy_config("none");
  config.confidence = "dual";
  config.confidence_target = 0.25;
  EntropyWeight weight(config, 4);
  EXPECT_DOUBLE_EQ(weight.confidence_lambda(), 1e-2);
  EXPECT_DOUBLE_EQ(weight.value(kUneven), 1e-2 * 0.85);
  EXPECT_DOUBLE_EQ(weight.gradient(kUneven)[8], 1e-3);
  weight.step(kUneven, 0, 0, 0);  // mean H(p) = 0.85 nats of log 4
  EXPECT_NEAR(weight.confidence_lambda(), 1e-2 * std::exp(0.2 * (0.85 / std::log(4.0) - 0.25)),
              1e-12);
  for (int step = 0; step < 1000; ++step) weight.step(kCollapsed, 0, 0, 0);
  EXPECT_NEAR(weight.confidence_lambda(), 1e-4, 1e-15) << "units are sure: nothing to hold";
  base::StateTree tree;
  weight.list(tree, "entropy");
  EXPECT_EQ(tree.entry("entropy").shape, std::vector<std::int64_t>{5});
}

TEST(EntropyWeight, every_balance_term_joins_the_loss) {
  const Statistics with_tau{6.1, 2.2, 1.3, 0.4, 9, 6, 4, 1, 8.5, 5.25, 1.2, 10};
  for (const std::string balance : {"cv2", "mutual_information", "threshold_literal"}) {
    auto config = entropy_config("none");
    config.kind = "threshold";
    config.balance = balance;
    config.balance_weight = 0.5;
    const auto layout = config.layout(4);
    const auto alone = balance == "cv2"                  ? squared_variation(layout, 0.5)
                       : balance == "mutual_information" ? mutual_information(layout, -0.5)
                                                         : threshold_balance(layout, 0.5);
    const EntropyWeight weight(config, 4);
    EXPECT_EQ(weight.value(with_tau), alone->value(with_tau)) << balance;
    EXPECT_NE(weight.value(with_tau), 0) << balance;
    EXPECT_EQ(weight.gradient(with_tau), alone->gradient(with_tau)) << balance;
  }
}

}  // namespace
}  // namespace dfmoa::gates
