// What router.h promises from logits onward.
#include "src/base/error.h"
#include "src/gates/balance.h"
#include "src/gates/router.h"
#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

using tests::distance;
using tests::normal;
using tests::reals;

RouterConfig topk_router(std::int64_t top_k) {
  RouterConfig config;
  config.kind = "topk";
  config.top_k = top_k;
  return config;
}

TEST(RouterSelect, softmax_is_its_own_gate) {
  const auto selection = select({}, normal({3, 4}, 1));
  EXPECT_TRUE(selection.w_UE.is_same(selection.p_UE));
  EXPECT_LT(distance(selection.w_UE.sum(1), at::ones({3}, at::kDouble)), 1e-15);
}

TEST(RouterSelect, topk_ties_go_to_the_lowest_index) {
  // 40 experts: an unstable sort reorders equal values only in longer rows.
  const auto tied = select(topk_router(3), at::zeros({2, 40}, at::kDouble)).w_UE;
  auto expected = at::zeros({2, 40}, at::kDouble);
  expected.narrow(1, 0, 3).fill_(1.0 / 3);
  EXPECT_LT(distance(tied, expected), 1e-15);
  const auto partly = select(topk_router(2), reals({0, 5, 1, 1, 1}).view({1, 5})).w_UE;
  EXPECT_GT(partly[0][2].item<double>(), 0);
  EXPECT_EQ(partly[0][3].item<double>(), 0);
  EXPECT_EQ(partly[0][4].item<double>(), 0);
}

TEST(RouterSelect, topk_renormalises_the_largest) {
  const auto logit_UE = reals({1, 3, 2, 0}).view({1, 4});
  const auto w = select(topk_router(2), logit_UE).w_UE;
  const double share = 1 / (1 + std::exp(-1.0));
  EXPECT_LT(distance(w, reals({0, share, 1 - share, 0}).view({1, 4})), 1e-15);
}

TEST(RouterSelect, topk_of_all_experts_is_softmax) {
  const auto logit_UE = normal({5, 4}, 2);
  EXPECT_LT(distance(select(topk_router(4), logit_UE).w_UE, at::softmax(logit_UE, 1)), 1e-15);
}

TEST(RouterSelect, a_single_choice_keeps_its_probability_and_teaches_its_router) {
  const auto logit_UE = tests::normal_leaf({5, 4}, 3);
  const auto selection = select(topk_router(1), logit_UE);
  EXPECT_EQ(distance(selection.w_UE.sum(1), std::get<0>(selection.p_UE.max(1))), 0);
  const auto dw = normal({5, 4}, 4);
  const auto slope = tests::gradients({selection.w_UE}, {dw}, {logit_UE})[0];
  EXPECT_GT(slope.abs().sum(1).min().item<double>(), 1e-3);
}

/// Why K = 1 is not renormalised: its output would say nothing to the router; the balance term
/// still speaks, because it is taken before selection.
TEST(RouterSelect, one_active_renormalised_expert_gives_its_router_no_gradient) {
  const auto logit_UE = tests::normal_leaf({5, 4}, 3);
  const auto config = topk_router(1);
  const auto selection = select(config, logit_UE);
  const auto renormalised = selection.w_UE / selection.w_UE.sum(1, true);
  const auto through_output = tests::gradients({renormalised}, {normal({5, 4}, 4)}, {logit_UE})[0];
  EXPECT_LT(through_output.abs().max().item<double>(), 1e-15);
  const auto statistics = statistics_of(config, selection);
  const std::span<const double> global(statistics.const_data_ptr<double>(), 11);
  const auto kappa = reals(load_entropy({4}, -1.0)->gradient(global));
  const auto through_balance = tests::gradients({statistics}, {kappa}, {logit_UE})[0];
  EXPECT_GT(through_balance.abs().max().item<double>(), 1e-3);
}

TEST(RouterSelect, gradient_of_topk_is_the_slope) {
  const auto logit_UE = tests::normal_leaf({3, 5}, 5);
  const auto dw = normal({3, 5}, 6);
  const auto config = topk_router(2);
  const auto f = [&] { return (select(config, logit_UE).w_UE * dw).sum().item<double>(); };
  const auto slope = tests::central_differences(f, logit_UE);
  const auto grad = tests::gradients({select(config, logit_UE).w_UE}, {dw}, {logit_UE})[0];
  EXPECT_LT(distance(grad, slope), 1e-9);
}

TEST(RouterStatistics, entries_are_what_the_layout_says) {
  const Selection selection{reals({0.5, 0.25, 0.25, 0.1, 0.2, 0.7}).view({2, 3}),
                            reals({0.625, 0.375, 0, 0, 0, 1}).view({2, 3}),
                            {}};
  const auto entropy = [](std::vector<double> p) {
    double sum = 0;
    for (const auto value : p) sum -= value * std::log(value);
    return sum;
  };
  const auto s = statistics_of({}, selection);
  EXPECT_EQ(s.scalar_type(), at::kDouble);
  EXPECT_LT(distance(s, reals({0.6, 0.45, 0.95, 1, 1, 1,
                               entropy({0.5, 0.25, 0.25}) + entropy({0.1, 0.2, 0.7}),
                               entropy({0.625, 0.375}), 2})),
            1e-15);
}

/// A router that is sure underflows to p = 0, where the slope of p log p is infinite.
TEST(RouterStatistics, a_probability_of_zero_does_not_spoil_the_gradient) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const std::string kind : {"softmax", "topk"}) {
      auto config = topk_router(1);
      config.kind = kind;
      const auto logit_UE =
          reals({0, -2000, 1, 3, 0, -3000}).view({2, 3}).to(dtype).requires_grad_();
      const auto selection = select(config, logit_UE);
      ASSERT_EQ(selection.p_UE[0][1].item<double>(), 0);
      const auto seed = reals({0.5, 0.25, 0.25, 0, 0, 0, 0, 0, 0});
      const auto entropy_too = reals({0.5, 0.25, 0.25, 0, 0, 0, 1, 0, 0});
      for (const auto& kappa : {seed, entropy_too}) {
        const auto grad =
            tests::gradients({statistics_of(config, selection)}, {kappa}, {logit_UE})[0];
        EXPECT_TRUE(at::isfinite(grad).all().item<bool>()) << kind;
        EXPECT_GT(grad.abs().max().item<double>(), 1e-3) << kind;
      }
    }
  }
}

TEST(RouterStatistics, gradient_flows_through_p_alone_and_through_w_only_where_gates_are_dense) {
  const auto logit_UE = tests::normal_leaf({4, 3}, 7);
  const auto seed = reals({0, 0, 0, 0, 0, 0, 0, 1, 0});
  const auto dense = statistics_of({}, select({}, logit_UE));
  const auto grad = tests::gradients({dense}, {seed}, {logit_UE})[0];
  const auto f = [&] { return statistics_of({}, select({}, logit_UE))[7].item<double>(); };
  EXPECT_LT(distance(grad, tests::central_differences(f, logit_UE)), 1e-9);
  const auto sparse = statistics_of(topk_router(2), select(topk_router(2), logit_UE));
  const auto none = tests::gradients({sparse}, {seed}, {logit_UE})[0];
  EXPECT_EQ(none.abs().max().item<double>(), 0);
}

RouterConfig of_kind(const std::string& kind) {
  RouterConfig config;
  config.kind = kind;
  config.top_k = 2;
  return config;
}

/// What a kind with a threshold reads beside its logits.
at::Tensor threshold_input(const RouterConfig& config, std::int64_t units, std::uint64_t seed) {
  return config.has_threshold() ? tests::normal_leaf({units, 1}, seed) : at::Tensor();
}

class SelectKind : public testing::TestWithParam<std::string> {};

TEST_P(SelectKind, gradients_to_logits_and_threshold_are_the_slopes) {
  const auto config = of_kind(GetParam());
  const auto logit_UE = tests::normal_leaf({6, 5}, 21);
  const auto v_U1 = threshold_input(config, 6, 22);
  const auto dw = normal({6, 5}, 23);
  const auto f = [&] { return (select(config, logit_UE, v_U1).w_UE * dw).sum().item<double>(); };
  const auto w_UE = select(config, logit_UE, v_U1).w_UE;
  const auto grads = tests::gradients({w_UE}, {dw}, {logit_UE});
  EXPECT_LT(distance(grads[0], tests::central_differences(f, logit_UE)), 1e-8);
  if (!v_U1.defined()) return;
  const auto to_threshold = tests::gradients({w_UE}, {dw}, {v_U1})[0];
  if (GetParam() == "sigmoid_threshold_literal") {
    EXPECT_FALSE(to_threshold.defined()) << "as released: the threshold never learns";
    return;
  }
  EXPECT_LT(distance(to_threshold, tests::central_differences(f, v_U1)), 1e-8);
  EXPECT_GT(to_threshold.abs().max().item<double>(), 1e-3);
}

TEST_P(SelectKind, gradients_of_its_statistics_are_the_slopes) {
  const auto config = of_kind(GetParam());
  const auto logit_UE = tests::normal_leaf({6, 5}, 24);
  const auto v_U1 = threshold_input(config, 6, 25);
  const StatisticsLayout layout = config.layout(5);
  auto kappa = normal({layout.size()}, 26);
  kappa.narrow(0, layout.count(), 5).zero_();
  kappa[layout.entropy_w()] = 0.0;
  const auto s = [&] { return statistics_of(config, select(config, logit_UE, v_U1)); };
  ASSERT_EQ(s().numel(), layout.size());
  const auto f = [&] { return (s() * kappa).sum().item<double>(); };
  const auto grad = tests::gradients({s()}, {kappa}, {logit_UE})[0];
  EXPECT_LT(distance(grad, tests::central_differences(f, logit_UE)), 1e-8);
}

TEST_P(SelectKind, undecided_gates_have_the_mean_gate_that_the_scale_counts_on) {
  const auto config = of_kind(GetParam());
  for (const std::int64_t experts : {1, 2, 5, 49}) {
    if (config.kind.starts_with("topk") && experts < config.top_k) continue;
    const auto v = config.has_threshold() ? at::zeros({3, 1}, at::kDouble) : at::Tensor();
    const auto w = select(config, at::zeros({3, experts}, at::kDouble), v).w_UE;
    const double expected = GetParam().starts_with("head") ? 1.0 : config.mean_gate(experts);
    EXPECT_LT(distance(w.mean(1), at::full({3}, expected, at::kDouble)), 1e-15) << experts;
  }
}

TEST_P(SelectKind, takes_zero_units) {
  const auto config = of_kind(GetParam());
  const auto v = config.has_threshold() ? at::zeros({0, 1}, at::kDouble) : at::Tensor();
  const auto selection = select(config, at::zeros({0, 4}, at::kDouble), v);
  EXPECT_EQ(selection.w_UE.sizes(), (at::IntArrayRef{0, 4}));
  const auto s = statistics_of(config, selection);
  EXPECT_EQ(distance(s, at::zeros_like(s)), 0);
}

INSTANTIATE_TEST_SUITE_P(Of, SelectKind,
                         testing::Values("softmax", "topk", "topk_literal", "threshold", "sigmoid",
                                         "sigmoid_threshold", "sigmoid_threshold_literal",
                                         "sparsegen", "head_softmax", "head_sigmoid"));

TEST(SelectThreshold, keeps_what_exceeds_the_threshold_and_renormalises_it) {
  const auto config = of_kind("threshold");  // tau = sigmoid(0) / 3 = 1/6
  const auto logit = reals({0.5, 0.4, 0.1}).log().view({1, 3});
  const auto w = select(config, logit, at::zeros({1, 1}, at::kDouble)).w_UE;
  const double first = 0.5 - 1.0 / 6;
  const double second = 0.4 - 1.0 / 6;
  EXPECT_LT(distance(w, reals({first, second, 0}).div(first + second).view({1, 3})), 1e-14);
}

TEST(SelectThreshold, nothing_above_it_gives_zeros_and_a_finite_gradient) {
  auto config = of_kind("threshold");
  config.threshold_max = 1.0;
  const auto logit = at::zeros({2, 4}, at::kDouble).requires_grad_();
  const auto v = at::full({2, 1}, 30.0, at::kDouble).requires_grad_();
  const auto selection = select(config, logit, v);
  EXPECT_EQ(selection.w_UE.abs().max().item<double>(), 0);
  const auto s = statistics_of(config, selection);
  for (const auto& grad : tests::gradients({selection.w_UE.sum() + s.sum()}, {{}}, {logit, v})) {
    EXPECT_TRUE(at::isfinite(grad).all().item<bool>());
  }
}

/// Only the balance term, taken before selection, can reopen an expert then.
TEST(SelectOneActive, renormalised_gates_say_nothing_to_their_router) {
  for (const std::string kind : {"threshold", "sparsegen"}) {
    const auto config = of_kind(kind);
    const auto logit = reals({9, 0, 0, 0}).view({1, 4}).requires_grad_();
    const auto v = at::zeros({1, 1}, at::kDouble).requires_grad_();
    const auto selection = select(config, logit, v);
    ASSERT_LT(distance(selection.w_UE, reals({1, 0, 0, 0}).view({1, 4})), 1e-14) << kind;
    const auto grads = tests::gradients({selection.w_UE}, {normal({1, 4}, 31)}, {logit, v});
    for (const auto& grad : grads) EXPECT_LT(grad.abs().max().item<double>(), 1e-14) << kind;
    const auto s = statistics_of(config, selection);
    auto kappa = at::zeros_like(s);
    kappa[1] = 1.0;
    EXPECT_GT(tests::gradients({s}, {kappa}, {logit})[0].abs().max().item<double>(), 1e-5) << kind;
  }
}

TEST(SelectSigmoidThreshold, its_slope_by_the_threshold_is_the_closed_form) {
  const auto config = of_kind("sigmoid_threshold");
  const auto g = reals({0.9, 0.6, 0.2}).view({1, 3});
  const auto v = reals({0.7}).view({1, 1}).requires_grad_();
  const auto selection = select(config, (g / (1 - g)).log(), v);
  const double gamma = 0.5 / (1 + std::exp(-0.7));
  EXPECT_NEAR(selection.tau_U1.item<double>(), gamma, 1e-15);
  EXPECT_NEAR(selection.w_UE[0][2].item<double>(), 0, 0) << "below the threshold";
  const double slope_of_gamma = gamma * (1 - gamma / 0.5);
  for (std::int64_t e = 0; e < 2; ++e) {
    auto dw = at::zeros({1, 3}, at::kDouble);
    dw[0][e] = 1.0;
    const double membership = g[0][e].item<double>();
    EXPECT_NEAR(tests::gradients({selection.w_UE}, {dw}, {v})[0].item<double>(),
                (membership - 1) / ((1 - gamma) * (1 - gamma)) * slope_of_gamma, 1e-13);
  }
}

/// Sorted search over every support size, as the definition reads.
TEST(SelectSparsegen, is_the_projection_of_its_definition) {
  const auto config = of_kind("sparsegen");
  const auto logit = normal({20, 6}, 33).mul_(0.7);
  const auto v = normal({20, 1}, 34);
  const auto selection = select(config, logit, v);
  std::int64_t closed = 0;
  for (std::int64_t u = 0; u < 20; ++u) {
    const double lambda = 0.99 - std::log1p(std::exp(-v[u].item<double>()));
    std::vector<double> a(logit[u].data_ptr<double>(), logit[u].data_ptr<double>() + 6);
    auto sorted = a;
    std::sort(sorted.rbegin(), sorted.rend());
    double sum = 0;
    double tau = 0;
    for (std::size_t k = 1; k <= 6; ++k) {
      sum += sorted[k - 1];
      const auto size = static_cast<double>(k);
      if (1 - lambda + size * sorted[k - 1] > sum) tau = (sum - 1 + lambda) / size;
    }
    double total = 0;
    for (std::int64_t e = 0; e < 6; ++e) {
      const double p = std::max(a[static_cast<std::size_t>(e)] - tau, 0.0) / (1 - lambda);
      EXPECT_NEAR(selection.w_UE[u][e].item<double>(), p, 1e-13);
      total += p;
      closed += p == 0 ? 1 : 0;
    }
    EXPECT_NEAR(total, 1, 1e-13);
  }
  EXPECT_GT(closed, 10) << "it is sparse";
}

TEST(SelectHeads, equal_logits_give_exactly_one_whatever_the_number_of_heads) {
  for (const std::string kind : {"head_softmax", "head_sigmoid"}) {
    for (const std::int64_t heads : {1, 9, 12, 49, 98}) {
      const auto w = select(of_kind(kind), at::zeros({4, heads}, at::kDouble)).w_UE;
      EXPECT_TRUE(at::equal(w, at::ones({4, heads}, at::kDouble))) << kind << " " << heads;
    }
  }
  EXPECT_FALSE(at::equal(at::softmax(at::zeros({1, 49}, at::kDouble), 1) * 49,
                         at::ones({1, 49}, at::kDouble)))
      << "why it is not H * softmax";
}

TEST(SelectHeads, softmax_conserves_the_mass_of_the_heads) {
  const auto w = select(of_kind("head_softmax"), normal({7, 9}, 35)).w_UE;
  EXPECT_LT(distance(w.mean(1), at::ones({7}, at::kDouble)), 1e-15);
}

TEST(RouterSelect, a_threshold_without_its_input_is_refused) {
  const auto logit = at::zeros({1, 2}, at::kDouble);
  EXPECT_THROW((void)select(of_kind("threshold"), logit), base::ShapeError);
  EXPECT_THROW((void)select({}, logit, at::zeros({1, 1}, at::kDouble)), base::ShapeError);
}

TEST(RouterStatistics, entropies_of_independent_memberships_are_those_of_their_shares) {
  const auto config = of_kind("sigmoid_threshold");
  const Selection selection{reals({0.6, 0.2}).view({1, 2}), reals({0.3, 0}).view({1, 2}),
                            reals({0.25}).view({1, 1})};
  const double h = -(0.75 * std::log(0.75) + 0.25 * std::log(0.25));
  EXPECT_LT(distance(statistics_of(config, selection), reals({0.6, 0.2, 1, 0, h, 0, 0.25, 1})),
            1e-15);
}

}  // namespace
}  // namespace dfmoa::gates
