#include "src/adapters/prompt_adapter.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

using tests::normal_leaf;

/// Head by head, as the definition reads.
at::Tensor spelled_prompt(const at::Tensor& q_THC, const at::Tensor& k_PKC, const at::Tensor& v_PKC,
                          const at::Tensor& head_gate_H) {
  std::vector<at::Tensor> heads;
  for (std::int64_t h = 0; h < q_THC.size(1); ++h) {
    const auto group = h / (q_THC.size(1) / k_PKC.size(1));
    const auto score = at::matmul(q_THC.select(1, h), k_PKC.select(1, group).t()) /
                       std::sqrt(static_cast<double>(q_THC.size(2)));
    heads.push_back(at::matmul(at::softmax(score, 1), v_PKC.select(1, group)) * head_gate_H[h]);
  }
  return at::stack(heads, 1);
}

TEST(PromptAdapter, is_its_formula_for_grouped_heads_with_the_gradients_of_its_slopes) {
  for (const std::int64_t groups : {1, 2, 6}) {
    const std::vector<at::Tensor> leaves{normal_leaf({4, 6, 3}, 1), normal_leaf({5, groups, 3}, 2),
                                         normal_leaf({5, groups, 3}, 3), normal_leaf({6}, 4)};
    const auto call = [&] { return prompt_attention(leaves[0], leaves[1], leaves[2], leaves[3]); };
    EXPECT_LT(tests::distance(call(), spelled_prompt(leaves[0], leaves[1], leaves[2], leaves[3])),
              1e-14);
    const auto dy = tests::normal({4, 6, 3}, 5);
    const auto grads = tests::gradients({call()}, {dy}, leaves);
    const auto f = [&] { return (call() * dy).sum().item<double>(); };
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      EXPECT_LT(tests::distance(grads[i], tests::central_differences(f, leaves[i])), 1e-8) << i;
    }
  }
}

TEST(PromptAdapter, tensors_that_do_not_fit_are_refused) {
  const auto sentence = tests::refusal<base::ShapeError>([] {
    (void)prompt_attention(normal_leaf({4, 6, 3}, 1), normal_leaf({5, 4, 3}, 2),
                           normal_leaf({5, 4, 3}, 3), normal_leaf({6}, 4));
  });
  EXPECT_TRUE(tests::contains(sentence, "q is [4, 6, 3], k [5, 4, 3]")) << sentence;
}

}  // namespace
}  // namespace dfmoa::adapters
