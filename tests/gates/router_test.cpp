#include "src/gates/router.h"

#include "src/base/error.h"
#include "src/gates/balance.h"
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

Documents router_documents(std::int64_t tokens) {
  Documents documents;
  documents.begin = {0, tokens};
  documents.id = {0};
  finish(documents, false, at::kDouble);
  return documents;
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
  const auto selection = select(topk_router(1), logit_UE);
  const auto renormalised = selection.w_UE / selection.w_UE.sum(1, true);
  const auto through_output = tests::gradients({renormalised}, {normal({5, 4}, 4)}, {logit_UE})[0];
  EXPECT_LT(through_output.abs().max().item<double>(), 1e-15);
  const auto statistics = statistics_of(selection);
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
                            reals({0.625, 0.375, 0, 0, 0, 1}).view({2, 3})};
  const auto entropy = [](std::vector<double> p) {
    double sum = 0;
    for (const auto value : p) sum -= value * std::log(value);
    return sum;
  };
  const auto s = statistics_of(selection);
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
        const auto grad = tests::gradients({statistics_of(selection)}, {kappa}, {logit_UE})[0];
        EXPECT_TRUE(at::isfinite(grad).all().item<bool>()) << kind;
        EXPECT_GT(grad.abs().max().item<double>(), 1e-3) << kind;
      }
    }
  }
}

TEST(RouterStatistics, gradient_flows_through_p_alone_and_through_w_only_where_gates_are_dense) {
  const auto logit_UE = tests::normal_leaf({4, 3}, 7);
  const auto seed = reals({0, 0, 0, 0, 0, 0, 0, 1, 0});
  const auto dense = statistics_of(select({}, logit_UE));
  const auto grad = tests::gradients({dense}, {seed}, {logit_UE})[0];
  const auto f = [&] { return statistics_of(select({}, logit_UE))[7].item<double>(); };
  EXPECT_LT(distance(grad, tests::central_differences(f, logit_UE)), 1e-9);
  const auto sparse = statistics_of(select(topk_router(2), logit_UE));
  const auto none = tests::gradients({sparse}, {seed}, {logit_UE})[0];
  EXPECT_EQ(none.abs().max().item<double>(), 0);
}

TEST(Router, logits_are_the_product_over_the_temperature) {
  RouterConfig config;
  config.temperature = 0.5;
  const auto x_TD = normal({6, 3}, 8);
  const auto weight_ED = normal({4, 3}, 9);
  const auto gates = route(config, x_TD, weight_ED, router_documents(6));
  const auto expected = at::softmax(at::matmul(x_TD, weight_ED.t()) * 2, 1);
  EXPECT_LT(distance(gates.w_TE, expected), 1e-14);
  EXPECT_EQ(distance(gates.w_UE, gates.w_TE), 0);
  EXPECT_EQ(gates.statistics_U[10].item<double>(), 6);
}

TEST(Router, a_span_gate_is_one_per_document_and_reads_its_span_alone) {
  RouterConfig config;
  config.scope = "span";
  Documents documents;
  documents.begin = {0, 4, 9};
  documents.id = {3, 8};
  documents.span_begin = {1, 4};
  documents.span_end = {3, 9};
  finish(documents, true, at::kDouble);
  const auto x_TD = normal({9, 3}, 10);
  const auto weight_ED = normal({4, 3}, 11);
  const auto gates = route(config, x_TD, weight_ED, documents);
  const auto pooled = at::stack({x_TD.narrow(0, 1, 2).mean(0), x_TD.narrow(0, 4, 5).mean(0)});
  const auto expected = at::softmax(at::matmul(pooled, weight_ED.t()), 1);
  EXPECT_LT(distance(gates.w_UE, expected), 1e-14);
  EXPECT_EQ(distance(gates.w_TE, gates.w_UE.index_select(0, documents.row_T)), 0);
  EXPECT_EQ(gates.statistics_U[10].item<double>(), 2);
  x_TD[0].fill_(100);  // a token of the first document outside its span
  x_TD[3].fill_(-100);
  EXPECT_EQ(distance(route(config, x_TD, weight_ED, documents).w_UE, gates.w_UE), 0);
}

TEST(Router, takes_zero_tokens) {
  const auto gates =
      route(topk_router(2), at::empty({0, 3}, at::kDouble), normal({4, 3}, 9), router_documents(0));
  EXPECT_EQ(gates.w_TE.size(0), 0);
  EXPECT_EQ(distance(gates.statistics_U, at::zeros({11}, at::kDouble)), 0);
}

TEST(Router, tensors_that_do_not_fit_are_refused) {
  const auto documents = router_documents(6);
  const auto call = [&](const at::Tensor& x, const at::Tensor& weight) {
    (void)route({}, x, weight, documents);
  };
  const auto sentence = tests::refusal<base::ShapeError>([&] {
    call(normal({5, 3}, 1), normal({4, 3}, 1));
  });
  EXPECT_TRUE(tests::contains(sentence, "x is [5, 3], its weight [4, 3], tokens 6")) << sentence;
  EXPECT_THROW(call(normal({6, 3}, 1), normal({4, 2}, 1)), base::ShapeError);
  EXPECT_THROW(call(normal({6}, 1), normal({4, 2}, 1)), base::ShapeError);
}

}  // namespace
}  // namespace dfmoa::gates
