#include "src/adapters/base_linear.h"

#include "kernels/nf4.h"
#include "src/base/error.h"
#include "src/ops/nf4.h"
#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

using tests::distance;
using tests::normal;

TEST(DenseLinear, forward_and_backward_are_products_with_the_weight) {
  const auto weight_FD = normal({4, 3}, 1);
  const auto bias_F = normal({4}, 2);
  const auto x_TD = tests::normal_leaf({5, 3}, 3);
  const auto dy_TF = normal({5, 4}, 4);
  const auto linear = dense_linear(weight_FD, bias_F);
  const auto expected = at::matmul(x_TD, weight_FD.t()) + bias_F;
  EXPECT_LT(distance(linear->forward(x_TD.detach()), expected), 1e-14);
  const auto dx = tests::gradients({expected}, {dy_TF}, {x_TD})[0];
  EXPECT_LT(distance(linear->backward(dy_TF), dx), 1e-14);
  const auto plain = dense_linear(weight_FD, at::Tensor());
  EXPECT_LT(distance(plain->forward(x_TD.detach()), expected - bias_F), 1e-14);
  EXPECT_EQ(linear->in_features(), 3);
  EXPECT_EQ(linear->out_features(), 4);
  EXPECT_EQ(linear->bytes(), 16 * 8);
  EXPECT_EQ(plain->bytes(), 12 * 8);
}

struct QuantisedWeight {
  at::Tensor codes = at::empty({64}, at::kByte);
  at::Tensor absmax = at::empty({2}, at::kFloat);
  QuantisedWeight() {
    const auto weight = normal({8, 16}, 5).to(at::kFloat);
    EXPECT_TRUE(kernels::nf4_quantize(weight.const_data_ptr<float>(), 128, 64,
                                      codes.data_ptr<std::uint8_t>(), absmax.data_ptr<float>(),
                                      kernels::CpuLevel::reference));
  }
};

TEST(Nf4Linear, equals_the_dense_linear_of_the_dequantised_weight_bit_for_bit) {
  const QuantisedWeight q;
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const auto bias_F = normal({8}, 6).to(dtype);
    const auto dense =
        dense_linear(ops::nf4_dequantize(q.codes, q.absmax, 64, {8, 16}, dtype), bias_F);
    const auto linear = nf4_linear(q.codes, q.absmax, 64, 8, 16, bias_F);
    const auto x_TD = normal({5, 16}, 7).to(dtype);
    const auto dy_TF = normal({5, 8}, 8).to(dtype);
    EXPECT_TRUE(at::equal(linear->forward(x_TD), dense->forward(x_TD)));
    EXPECT_TRUE(at::equal(linear->backward(dy_TF), dense->backward(dy_TF)));
    EXPECT_EQ(linear->forward(x_TD).scalar_type(), dtype);
  }
}

TEST(Nf4Linear, holds_codes_scales_and_bias_only) {
  const QuantisedWeight q;
  EXPECT_EQ(nf4_linear(q.codes, q.absmax, 64, 8, 16, at::Tensor())->bytes(), 64 + 8);
  EXPECT_EQ(nf4_linear(q.codes, q.absmax, 64, 8, 16, normal({8}, 6))->bytes(), 64 + 8 + 64);
}

TEST(Nf4Linear, codes_of_another_shape_are_refused_at_the_first_use) {
  const QuantisedWeight q;
  const auto linear = nf4_linear(q.codes, q.absmax, 64, 9, 16, at::Tensor());
  EXPECT_THROW((void)linear->forward(normal({5, 16}, 7)), base::ShapeError);
}

}  // namespace
}  // namespace dfmoa::adapters
