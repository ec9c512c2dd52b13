#include "src/gates/override.h"

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

using formats::contains;
using formats::sentence_of;
using tests::distance;
using tests::reals;
using Kind = Override::Kind;

const RouterKey kKey{3, "main"};

/// Gates of two tokens; their sums are 1 and 0.5, as of a topk router of one expert.
at::Tensor two_tokens() {
  return reals({0.1, 0.4, 0.2, 0.3, 0.05, 0.2, 0.2, 0.05}).view({2, 4});
}

at::Tensor applied(const std::string& text, const at::Tensor& w_TE, RouterConfig config = {}) {
  return Override::parse(text).apply(kKey, config, w_TE);
}

TEST(GateOverride, soft_gates_are_the_routers_own) {
  const auto w_TE = two_tokens();
  EXPECT_TRUE(applied("soft", w_TE).is_same(w_TE));
}

TEST(GateOverride, the_largest_gates_are_scaled_to_the_sum_of_all) {
  const auto w_TE = two_tokens();
  const auto two = reals({0, 4.0 / 7, 0, 3.0 / 7, 0, 0.25, 0.25, 0}).view({2, 4});
  EXPECT_LT(distance(applied("topk:2", w_TE), two), 1e-15);
  EXPECT_LT(distance(applied("topk", w_TE), two), 1e-15) << "a router's top_k is 2 unless set";
  RouterConfig config;
  config.top_k = 4;
  EXPECT_TRUE(at::equal(applied("topk", w_TE, config), w_TE));
  config.top_k = 9;
  EXPECT_TRUE(at::equal(applied("topk", w_TE, config), w_TE)) << "fewer experts than top_k";
}

TEST(GateOverride, top1_is_the_largest_with_the_sum_of_all_and_ties_go_to_the_lowest) {
  const auto one = reals({0, 1, 0, 0, 0, 0.5, 0, 0}).view({2, 4});
  EXPECT_LT(distance(applied("top1", two_tokens()), one), 1e-15);
  // 40 experts: an unstable sort reorders equal values only in longer rows.
  const auto tied = applied("top1", at::full({1, 40}, 0.025, at::kDouble));
  EXPECT_NEAR(tied[0][0].item<double>(), 1, 1e-12);
}

TEST(GateOverride, gates_that_are_all_zero_stay_zero) {
  const auto none = at::zeros({2, 3}, at::kDouble);
  for (const char* text : {"topk", "top1", "expert:1"}) {
    EXPECT_TRUE(at::equal(applied(text, none), none)) << text;
  }
}

TEST(GateOverride, one_expert_alone_has_the_sum_of_all) {
  const auto alone = reals({0, 0, 1, 0, 0, 0, 0.5, 0}).view({2, 4});
  EXPECT_LT(distance(applied("expert:2", two_tokens()), alone), 1e-15);
}

TEST(GateOverride, mean_gates_are_the_same_for_every_token) {
  auto gates = Override::parse("mean");
  gates.mean_E[kKey] = reals({0.7, 0.1, 0.1, 0.1});
  const auto w_TE = two_tokens().to(at::kFloat);
  const auto mean_TE = gates.apply(kKey, {}, w_TE);
  EXPECT_EQ(mean_TE.scalar_type(), at::kFloat);
  for (const int t : {0, 1}) EXPECT_LT(distance(mean_TE[t], gates.mean_E[kKey]), 1e-7) << t;
  const auto sentence = sentence_of<base::ShapeError>([&] {
    (void)gates.apply({4, "main"}, {}, w_TE);
  });
  EXPECT_TRUE(contains(sentence, "router main of block 4")) << sentence;
}

TEST(GateOverride, no_token_is_legal) {
  for (const char* text : {"soft", "topk", "top1", "expert:1"}) {
    EXPECT_EQ(applied(text, at::zeros({0, 3}, at::kDouble)).size(0), 0) << text;
  }
  EXPECT_EQ(applied("top1", at::ones({2, 1}, at::kDouble)).sum().item<double>(), 2) << "E = 1";
}

TEST(GateOverride, reads_what_people_type_and_refuses_the_rest) {
  EXPECT_EQ(Override::parse("topk").number, 0);
  EXPECT_EQ(Override::parse("topk:3").number, 3);
  EXPECT_EQ(Override::parse("top1").number, 1);
  EXPECT_EQ(Override::parse("mean").kind, Kind::mean);
  EXPECT_EQ(Override::parse("expert:0").kind, Kind::expert);
  for (const char* text : {"", "hard", "topk:", "topk:0", "topk:x", "topk:2x", "expert",
                           "expert:", "expert:-1", "expert:1.5", "mean:2", "top2"}) {
    const auto sentence = sentence_of<base::UsageError>([&] { (void)Override::parse(text); });
    EXPECT_TRUE(contains(sentence, "expert:I")) << text << ": " << sentence;
  }
}

TEST(GateOverride, refuses_numbers_that_a_router_does_not_have) {
  Override::parse("topk:4").check("main", 4);
  Override::parse("topk").check("main", 1);
  Override::parse("expert:3").check("main", 4);
  const auto refusal = [](const char* text) {
    return sentence_of<base::UsageError>([&] { Override::parse(text).check("main", 4); });
  };
  EXPECT_TRUE(contains(refusal("topk:5"), "router main has 4 experts, expected at most 4"));
  EXPECT_TRUE(contains(refusal("expert:4"), "router main has 4 experts, expected 0 to 3"));
}

}  // namespace
}  // namespace dfmoa::gates
