#include "src/ops/linear_cross_entropy.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::distance;
using tests::normal;

struct HeadInput {
  at::Tensor x_XD = tests::normal_leaf({7, 5}, 1);
  at::Tensor weight_VD = normal({11, 5}, 2);
  at::Tensor target_X = torch::tensor({0, 10, 3, 3, 7, 1, 9}, at::kLong);
};

class LinearCrossEntropyChunks : public testing::TestWithParam<std::int64_t> {};

TEST_P(LinearCrossEntropyChunks, losses_gradient_and_best_token_equal_whole_logits) {
  const HeadInput in;
  const auto plain = linear_cross_entropy_plain(in.x_XD, in.weight_VD, in.target_X);
  const auto dx = tests::gradients({plain.sum() * 0.37}, {}, {in.x_XD});
  const auto result =
      linear_cross_entropy(in.x_XD, in.weight_VD, in.target_X, 0.37, true, GetParam());
  EXPECT_LT(distance(result.nll_X, plain), 1e-13);
  EXPECT_LT(distance(result.dx_XD, dx[0]), 1e-13);
  EXPECT_TRUE(at::equal(result.best_X, at::matmul(in.x_XD, in.weight_VD.t()).argmax(1)));
}

INSTANTIATE_TEST_SUITE_P(Rows, LinearCrossEntropyChunks, testing::Values(1, 2, 3, 6, 7, 8, 256));

TEST(LinearCrossEntropy, without_a_wish_there_is_no_gradient) {
  const HeadInput in;
  const auto result = linear_cross_entropy(in.x_XD, in.weight_VD, in.target_X, 1, false);
  EXPECT_FALSE(result.dx_XD.defined());
  EXPECT_FALSE(result.nll_X.requires_grad());
}

TEST(LinearCrossEntropy, a_batch_without_loss_bearing_rows_is_legal) {
  const HeadInput in;
  const auto result = linear_cross_entropy(in.x_XD.narrow(0, 0, 0), in.weight_VD,
                                           in.target_X.narrow(0, 0, 0), 1, true);
  EXPECT_EQ(result.nll_X.sum().item<double>(), 0);
  EXPECT_EQ(result.dx_XD.size(0), 0);
  EXPECT_EQ(result.dx_XD.size(1), 5);
  EXPECT_EQ(result.best_X.numel(), 0);
}

TEST(LinearCrossEntropy, logits_of_thousands_neither_overflow_nor_vanish) {
  const auto x_XD = tests::reals({2000, -2000}).view({2, 1});
  const auto weight_VD = tests::reals({1, 0.5, 0}).view({3, 1});
  const auto target_X = torch::tensor({1, 2}, at::kLong);
  const auto result = linear_cross_entropy(x_XD, weight_VD, target_X, 1, true);
  EXPECT_DOUBLE_EQ(result.nll_X[0].item<double>(), 1000);
  EXPECT_DOUBLE_EQ(result.nll_X[1].item<double>(), 0);
  EXPECT_DOUBLE_EQ(result.dx_XD[0][0].item<double>(), 0.5);
}

TEST(LinearCrossEntropy, fp32_losses_are_summed_in_fp64) {
  const HeadInput in;
  const auto result = linear_cross_entropy(in.x_XD.to(at::kFloat), in.weight_VD.to(at::kFloat),
                                           in.target_X, 1, true, 3);
  EXPECT_EQ(result.nll_X.scalar_type(), at::kDouble);
  EXPECT_EQ(result.dx_XD.scalar_type(), at::kFloat);
  EXPECT_LT(distance(result.nll_X, linear_cross_entropy_plain(in.x_XD, in.weight_VD, in.target_X)),
            1e-5);
}

TEST(LinearCrossEntropy, shapes_that_do_not_fit_are_refused) {
  const HeadInput in;
  const auto call = [&](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& target,
                        std::int64_t chunk) {
    (void)linear_cross_entropy(x, weight, target, 1, true, chunk);
  };
  const auto sentence = tests::refusal<base::ShapeError>(
      [&] { call(in.x_XD.narrow(1, 0, 4), in.weight_VD, in.target_X, 4); });
  EXPECT_TRUE(tests::contains(sentence, "x [7, 4], weight [11, 5], target [7]")) << sentence;
  EXPECT_THROW(call(in.x_XD, in.weight_VD, in.target_X.narrow(0, 0, 6), 4), base::ShapeError);
  EXPECT_THROW(call(in.x_XD[0], in.weight_VD, in.target_X, 4), base::ShapeError);
  EXPECT_THROW(call(in.x_XD, in.weight_VD, in.target_X, 0), base::ShapeError);
}

}  // namespace
}  // namespace dfmoa::ops
