// Two laws of the equation at every corner: the fused form is the loop over experts, and at
// undecided gates the mixture is one LoRA. The other two laws: tests/model/laws_test.cpp.
#include "src/adapters/config.h"
#include "src/adapters/mixture_linear.h"
#include "src/gates/router.h"
#include "tests/support/corners.h"
#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

using tests::distance;
using tests::normal;
using tests::normal_leaf;

class MixtureCorners : public testing::TestWithParam<tests::Corner> {
 protected:
  static constexpr std::int64_t kIn = 5;

  /// Two adapted sites; gates as the corner's router selects them from these logits.
  MixtureCorners() {
    const auto& corner = GetParam();
    std::vector<std::int32_t> column;
    for (int s = 0; s < 2; ++s) {
      const std::int64_t out_features = 4 + s;
      const auto first = static_cast<std::int64_t>(column.size());
      for (std::int64_t e = 0; e < corner.experts; ++e) {
        if (e == corner.empty_expert) continue;
        column.insert(column.end(), static_cast<std::size_t>(corner.rank),
                      static_cast<std::int32_t>(e));
      }
      const auto directions = static_cast<std::int64_t>(column.size()) - first;
      const auto seed = static_cast<std::uint64_t>(s);
      sites_.push_back({dense_linear(normal({out_features, kIn}, 10 + seed), {}),
                        normal_leaf({directions, out_features}, 20 + seed), first, 0.5 + s});
      dy_.push_back(normal({corner.tokens, out_features}, 30 + seed));
    }
    x_TD_ = normal_leaf({corner.tokens, kIn}, 1);
    group_.a_ND = normal_leaf({static_cast<std::int64_t>(column.size()), kIn}, 2);
    group_.column_N = tests::ints(column);
    group_.row_begin = tests::ints({0, static_cast<std::int32_t>(corner.tokens)});
  }

  static at::Tensor gates_of(const at::Tensor& logit_TE) {
    const auto config = GetParam().router();
    const auto threshold_T1 =
        config.has_threshold() ? at::zeros({logit_TE.size(0), 1}, at::kDouble) : at::Tensor();
    auto w_TE = gates::select(config, logit_TE, threshold_T1).w_UE.detach().clone();
    if (GetParam().closed) w_TE.zero_();
    return w_TE.requires_grad_();
  }

  /// Where one expert is selected, the law speaks of equal experts.
  void make_experts_equal() {
    const auto& corner = GetParam();
    if (corner.kind != "topk" || corner.top_k == corner.experts) return;
    const at::NoGradGuard no_grad;
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      for (const auto& rows_N :
           {group_.a_ND.narrow(0, sites_[s].first, sites_[s].directions()), sites_[s].b_NF}) {
        for (std::int64_t e = 1; e < corner.experts; ++e) {
          rows_N.narrow(0, e * corner.rank, corner.rank).copy_(rows_N.narrow(0, 0, corner.rank));
        }
      }
    }
  }

  at::Tensor x_TD_;
  MixtureGroup group_;
  std::vector<MixtureSite> sites_;
  std::vector<at::Tensor> dy_;
};

TEST_P(MixtureCorners, the_fused_form_and_its_gradients_are_those_of_the_loop) {
  group_.gate_TG = gates_of(normal({GetParam().tokens, GetParam().experts}, 3));
  const auto fused = mixture_linear(x_TD_, group_, sites_);
  const auto loop = mixture_linear_loop(x_TD_, group_, sites_);
  const std::vector<at::Tensor> leaves{x_TD_, group_.a_ND, group_.gate_TG, sites_[0].b_NF,
                                       sites_[1].b_NF};
  const auto grads = tests::gradients(fused, dy_, leaves);
  const auto expected = tests::gradients(loop, dy_, leaves);
  for (std::size_t s = 0; s < 2; ++s) EXPECT_LT(distance(fused[s], loop[s]), 1e-12);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LT(distance(grads[i], expected[i]), 1e-12) << "leaf " << i;
  }
}

/// The factor of a mixture stays what it was when an expert lost its directions.
TEST_P(MixtureCorners, at_undecided_gates_it_is_one_lora_of_the_summed_rank) {
  const auto& corner = GetParam();
  make_experts_equal();
  for (const std::string scale : {"rslora", "lora"}) {
    AdapterConfig mixture;
    mixture.experts = corner.experts;
    mixture.rank = corner.rank;
    mixture.scale = scale;
    AdapterConfig lora = mixture;
    lora.experts = 1;
    lora.rank = corner.experts * corner.rank;
    const auto factor = mixture.scale_factor(corner.router().mean_gate(corner.experts));
    for (auto& site : sites_) site.scale = factor;
    auto group = group_;
    group.gate_TG = gates_of(at::zeros({corner.tokens, corner.experts}, at::kDouble));
    const auto mixed = mixture_linear(x_TD_, group, sites_);
    group.gate_TG = at::Tensor();
    group.column_N = at::zeros_like(group.column_N);
    if (corner.closed) group.z_ZN = at::zeros({1, group.a_ND.size(0)}, at::kDouble);
    for (auto& site : sites_) site.scale = lora.scale_factor(1);
    const auto one = mixture_linear(x_TD_, group, sites_);
    for (std::size_t s = 0; s < 2; ++s) EXPECT_LT(distance(mixed[s], one[s]), 1e-12) << scale;
  }
}

INSTANTIATE_TEST_SUITE_P(At, MixtureCorners, testing::ValuesIn(tests::corners()),
                         [](const auto& corner) { return corner.param.name; });

}  // namespace
}  // namespace dfmoa::adapters
