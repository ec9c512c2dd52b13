#include "src/ops/norm.h"

#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::distance;
using tests::normal;

TEST(RmsNormOp, forward_and_gradient_equal_the_plain_twin) {
  const auto x_TD = tests::normal_leaf({6, 5}, 1);
  const auto weight_D = normal({5}, 2);
  const auto dy_TD = normal({6, 5}, 3);
  const auto y = rms_norm(x_TD, weight_D, 1e-5);
  const auto plain = rms_norm_plain(x_TD, weight_D, 1e-5);
  EXPECT_LT(distance(y, plain), 1e-14);
  const auto expected = tests::gradients({plain}, {dy_TD}, {x_TD})[0];
  EXPECT_LT(distance(tests::gradients({y}, {dy_TD}, {x_TD})[0], expected), 1e-13);
  EXPECT_LT(distance(rms_norm_backward(dy_TD, x_TD.detach(), weight_D, 1e-5), expected), 1e-13);
}

TEST(RmsNormOp, gradient_is_the_slope_also_where_eps_dominates) {
  const auto x_TD = normal({2, 3}, 4).mul_(0.1).requires_grad_();
  const auto weight_D = normal({3}, 5);
  const auto dy_TD = normal({2, 3}, 6);
  const auto f = [&] { return (rms_norm(x_TD, weight_D, 0.5) * dy_TD).sum().item<double>(); };
  const auto slope = tests::central_differences(f, x_TD);
  const auto dx = tests::gradients({rms_norm(x_TD, weight_D, 0.5)}, {dy_TD}, {x_TD})[0];
  EXPECT_LT(distance(dx, slope), 1e-9);
}

TEST(RmsNormOp, a_row_of_zeros_stays_finite) {
  const auto x_TD = at::zeros({1, 4}, at::kDouble).requires_grad_();
  const auto y = rms_norm(x_TD, at::ones({4}, at::kDouble), 1e-4);
  EXPECT_EQ(y.abs().max().item<double>(), 0);
  const auto dx = tests::gradients({y}, {at::ones_like(y)}, {x_TD})[0];
  EXPECT_LT(distance(dx, at::full({1, 4}, 100.0, at::kDouble)), 1e-10);  // 1 / sqrt(eps)
}

TEST(RmsNormOp, the_frozen_weight_gets_no_gradient) {
  const auto x_TD = tests::normal_leaf({2, 3}, 7);
  const auto weight_D = tests::normal_leaf({3}, 8);
  const auto y = rms_norm(x_TD, weight_D, 1e-5);
  EXPECT_FALSE(tests::gradients({y}, {at::ones_like(y)}, {weight_D})[0].defined());
}

TEST(RmsNormOp, takes_zero_tokens_and_keeps_fp32) {
  EXPECT_EQ(rms_norm(at::empty({0, 3}), at::ones({3}), 1e-5).size(0), 0);
  EXPECT_EQ(rms_norm(at::ones({1, 3}), at::ones({3}), 1e-5).scalar_type(), at::kFloat);
}

TEST(LayerNormOp, forward_and_gradient_equal_the_plain_twin) {
  const auto x_TD = tests::normal({6, 5}, 1).add_(3).requires_grad_();
  const auto weight_D = normal({5}, 2);
  const auto bias_D = normal({5}, 3);
  const auto dy_TD = normal({6, 5}, 4);
  const auto y = layer_norm(x_TD, weight_D, bias_D, 1e-5);
  const auto plain = layer_norm_plain(x_TD, weight_D, bias_D, 1e-5);
  EXPECT_LT(distance(y, plain), 1e-13);
  const auto expected = tests::gradients({plain}, {dy_TD}, {x_TD})[0];
  EXPECT_LT(distance(tests::gradients({y}, {dy_TD}, {x_TD})[0], expected), 1e-13);
  EXPECT_LT(distance(layer_norm_backward(dy_TD, x_TD.detach(), weight_D, 1e-5), expected), 1e-13);
}

TEST(LayerNormOp, gradient_is_the_slope_also_where_eps_dominates) {
  const auto x_TD = normal({2, 3}, 4).mul_(0.1).requires_grad_();
  const auto weight_D = normal({3}, 5);
  const auto bias_D = normal({3}, 6);
  const auto dy_TD = normal({2, 3}, 7);
  const auto f = [&] {
    return (layer_norm(x_TD, weight_D, bias_D, 0.5) * dy_TD).sum().item<double>();
  };
  const auto slope = tests::central_differences(f, x_TD);
  const auto y = layer_norm(x_TD, weight_D, bias_D, 0.5);
  EXPECT_LT(distance(tests::gradients({y}, {dy_TD}, {x_TD})[0], slope), 1e-9);
  EXPECT_LT(distance(layer_norm_backward(dy_TD, x_TD.detach(), weight_D, 0.5), slope), 1e-9);
}

TEST(LayerNormOp, an_even_row_becomes_the_bias_and_stays_finite) {
  const auto x_TD = at::full({1, 4}, 7.0, at::kDouble).requires_grad_();
  const auto bias_D = normal({4}, 8);
  const auto y = layer_norm(x_TD, at::ones({4}, at::kDouble), bias_D, 1e-4);
  EXPECT_LT(distance(y[0], bias_D), 1e-12);
  const auto dx = tests::gradients({y}, {at::ones_like(y)}, {x_TD})[0];
  EXPECT_LT(dx.abs().max().item<double>(), 1e-10);
}

TEST(LayerNormOp, the_frozen_numbers_get_no_gradient_and_zero_tokens_are_taken) {
  const auto x_TD = tests::normal_leaf({2, 3}, 7);
  const auto ones_D = at::ones({3}, at::kDouble);
  const auto y = layer_norm(x_TD, ones_D, ones_D, 1e-5);
  EXPECT_FALSE(ones_D.requires_grad());
  EXPECT_TRUE(y.requires_grad());
  EXPECT_EQ(layer_norm(at::empty({0, 3}), at::ones({3}), at::ones({3}), 1e-5).size(0), 0);
  EXPECT_EQ(layer_norm_backward(at::empty({0, 3}), at::empty({0, 3}), at::ones({3}), 1e-5).size(0),
            0);
  EXPECT_EQ(layer_norm(at::ones({1, 3}), at::ones({3}), at::ones({3}), 1e-5).scalar_type(),
            at::kFloat);
}

}  // namespace
}  // namespace dfmoa::ops
