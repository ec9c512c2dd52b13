#include "src/ops/swiglu.h"

#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::distance;

TEST(SwiGluOp, forward_and_both_gradients_equal_the_plain_twin) {
  const auto gate_TF = tests::normal_leaf({4, 6}, 1);
  const auto up_TF = tests::normal_leaf({4, 6}, 2);
  const auto dy_TF = tests::normal({4, 6}, 3);
  const auto y = swiglu(gate_TF, up_TF);
  const auto plain = swiglu_plain(gate_TF, up_TF);
  EXPECT_LT(distance(y, plain), 1e-14);
  const auto grads = tests::gradients({y}, {dy_TF}, {gate_TF, up_TF});
  const auto expected = tests::gradients({plain}, {dy_TF}, {gate_TF, up_TF});
  EXPECT_LT(distance(grads[0], expected[0]), 1e-14);
  EXPECT_LT(distance(grads[1], expected[1]), 1e-14);
}

TEST(SwiGluOp, inputs_stay_as_they_were) {
  const auto gate_TF = tests::normal({2, 3}, 4);
  const auto up_TF = tests::normal({2, 3}, 5);
  const auto kept_gate = gate_TF.clone();
  const auto kept_up = up_TF.clone();
  (void)swiglu(gate_TF, up_TF);
  EXPECT_EQ(distance(gate_TF, kept_gate), 0);
  EXPECT_EQ(distance(up_TF, kept_up), 0);
}

TEST(SwiGluOp, takes_zero_tokens) {
  const auto empty_TF = at::empty({0, 3}, at::kDouble).requires_grad_();
  const auto y = swiglu(empty_TF, empty_TF);
  EXPECT_EQ(y.size(0), 0);
  EXPECT_EQ(tests::gradients({y}, {at::empty({0, 3}, at::kDouble)}, {empty_TF})[0].size(0), 0);
}

}  // namespace
}  // namespace dfmoa::ops
