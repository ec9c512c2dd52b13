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

TEST(DenseLinear, rows_are_a_linear_over_the_same_memory) {
  const auto weight_FD = normal({6, 3}, 1);
  const auto bias_F = normal({6}, 2);
  const auto x_TD = normal({5, 3}, 3);
  for (const auto& linear :
       {dense_linear(weight_FD, bias_F), dense_linear(weight_FD.t().contiguous().t(), bias_F)}) {
    const auto middle = linear->rows(2, 3);
    EXPECT_LT(distance(middle->forward(x_TD), linear->forward(x_TD).narrow(1, 2, 3)), 1e-14);
    const auto dy_TF = normal({5, 3}, 4);
    EXPECT_LT(distance(middle->backward(dy_TF), at::mm(dy_TF, weight_FD.narrow(0, 2, 3))), 1e-14);
    EXPECT_EQ(middle->out_features(), 3);
    EXPECT_EQ(middle->bytes(), 12 * 8);
  }
  const auto first = dense_linear(weight_FD, {})->rows(0, 1);
  weight_FD[0][0] += 1;
  EXPECT_LT(distance(first->forward(x_TD), at::mm(x_TD, weight_FD.narrow(0, 0, 1).t())), 1e-14);
}

/// Rows of 10, 7 and 16 weights in blocks of 64: slices begin and end inside of blocks, at them,
/// and in a last block that is short and has an odd number of codes.
TEST(Nf4Linear, rows_equal_the_rows_of_the_whole_bit_for_bit) {
  for (const std::int64_t columns : {10, 7, 16}) {
    const std::int64_t rows = 29;
    const auto count = rows * columns;
    const auto weight = normal({rows, columns}, 5).to(at::kFloat);
    auto codes = at::empty({(count + 1) / 2}, at::kByte);
    auto absmax = at::empty({(count + 63) / 64}, at::kFloat);
    ASSERT_TRUE(kernels::nf4_quantize(weight.const_data_ptr<float>(), count, 64,
                                      codes.data_ptr<std::uint8_t>(), absmax.data_ptr<float>(),
                                      kernels::CpuLevel::reference));
    const auto bias_F = normal({rows}, 6);
    const auto whole = nf4_linear(codes, absmax, 64, rows, columns, bias_F);
    const auto whole_FD = ops::nf4_dequantize(codes, absmax, 64, {rows, columns}, at::kDouble);
    const auto x_TD = normal({5, columns}, 7);
    const auto expect_rows = [&](const BaseLinear& slice, std::int64_t first, std::int64_t some) {
      const auto rows_FD = whole_FD.narrow(0, first, some);
      const auto dense = dense_linear(rows_FD, bias_F.narrow(0, first, some));
      const auto dy_TF = normal({5, some}, 8);
      EXPECT_EQ(slice.out_features(), some);
      EXPECT_TRUE(at::equal(slice.forward(x_TD), dense->forward(x_TD))) << first << " " << some;
      EXPECT_TRUE(at::equal(slice.backward(dy_TF), dense->backward(dy_TF))) << first;
      EXPECT_LE(slice.bytes(),
                (some * columns + 128) / 2 + 4 * (some * columns / 64 + 3) + some * 8);
    };
    for (std::int64_t first = 0; first < rows; ++first) {
      for (const std::int64_t some : {std::int64_t{1}, std::int64_t{8}, rows - first}) {
        if (first + some <= rows) expect_rows(*whole->rows(first, some), first, some);
      }
    }
    expect_rows(*whole->rows(9, 19)->rows(2, 15), 11, 15);
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
