#include "src/ops/gelu.h"

#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::distance;

TEST(GeluOp, forward_and_gradient_equal_the_plain_twin) {
  const auto up_TF = tests::normal({40, 6}, 1).mul_(3).requires_grad_();
  const auto dy_TF = tests::normal({40, 6}, 2);
  const auto y = gelu_new(up_TF);
  const auto plain = gelu_new_plain(up_TF);
  EXPECT_LT(distance(y, plain), 1e-14);
  EXPECT_LT(distance(tests::gradients({y}, {dy_TF}, {up_TF})[0],
                     tests::gradients({plain}, {dy_TF}, {up_TF})[0]),
            1e-13);
}

TEST(GeluOp, gradient_is_the_slope) {
  const auto up_TF = tests::normal_leaf({3, 4}, 3);
  const auto dy_TF = tests::normal({3, 4}, 4);
  const auto f = [&] { return (gelu_new(up_TF) * dy_TF).sum().item<double>(); };
  const auto slope = tests::central_differences(f, up_TF);
  EXPECT_LT(distance(tests::gradients({gelu_new(up_TF)}, {dy_TF}, {up_TF})[0], slope), 1e-9);
}

/// The form through the error function differs by up to 5e-4: another model.
TEST(GeluOp, is_the_form_through_tanh) {
  const auto at_one = gelu_new(at::ones({1, 1}, at::kDouble)).item<double>();
  EXPECT_NEAR(at_one, 0.8411919906082768, 1e-15);
  EXPECT_GT(std::abs(at_one - 0.8413447460685429), 1e-4);
}

TEST(GeluOp, the_input_stays_as_it_was_and_zero_tokens_are_taken) {
  const auto up_TF = tests::normal({2, 3}, 5);
  const auto kept = up_TF.clone();
  (void)gelu_new(up_TF);
  EXPECT_EQ(distance(up_TF, kept), 0);
  EXPECT_EQ(gelu_new(at::empty({0, 3})).size(0), 0);
  EXPECT_EQ(gelu_new(at::ones({1, 3})).scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace dfmoa::ops
