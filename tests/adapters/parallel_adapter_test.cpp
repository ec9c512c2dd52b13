#include "src/adapters/parallel_adapter.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

using tests::normal_leaf;

TEST(ParallelAdapter, is_its_formula_with_the_gradients_of_its_slopes) {
  const auto x_TD = normal_leaf({4, 5}, 1);
  const ParallelAdapter adapter{normal_leaf({3, 5}, 2), normal_leaf({3}, 3), normal_leaf({5, 3}, 4),
                                normal_leaf({5}, 5)};
  const auto inner = at::matmul(x_TD, adapter.down_WD.t()) + adapter.down_bias_W;
  const auto expected =
      at::matmul(inner * at::sigmoid(inner), adapter.up_DW.t()) + adapter.up_bias_D;
  EXPECT_LT(tests::distance(parallel_adapter(x_TD, adapter), expected), 1e-14);
  const auto dy = tests::normal({4, 5}, 6);
  const std::vector<at::Tensor> leaves{x_TD, adapter.down_WD, adapter.down_bias_W, adapter.up_DW,
                                       adapter.up_bias_D};
  const auto grads = tests::gradients({parallel_adapter(x_TD, adapter)}, {dy}, leaves);
  const auto f = [&] { return (parallel_adapter(x_TD, adapter) * dy).sum().item<double>(); };
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LT(tests::distance(grads[i], tests::central_differences(f, leaves[i])), 1e-8) << i;
  }
}

TEST(ParallelAdapter, tensors_that_do_not_fit_are_refused) {
  const ParallelAdapter adapter{normal_leaf({3, 5}, 2), normal_leaf({3}, 3), normal_leaf({5, 2}, 4),
                                normal_leaf({5}, 5)};
  const auto sentence = tests::refusal<base::ShapeError>([&] {
    (void)parallel_adapter(tests::normal({4, 5}, 1), adapter);
  });
  EXPECT_TRUE(tests::contains(sentence, "down [3, 5], up [5, 2]")) << sentence;
}

}  // namespace
}  // namespace dfmoa::adapters
