#include "src/ops/rotary.h"

#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::distance;
using tests::normal;

RotaryTable small_rotary_table(std::vector<std::int64_t> position, at::ScalarType dtype) {
  return rotary_table(torch::tensor(position, at::kLong), torch::tensor({1.0F, 0.25F}), dtype);
}

TEST(Rotary, a_pair_turns_by_position_times_frequency) {
  const auto x_THC = normal({2, 3, 4}, 1);
  const auto y_THC = rotate(x_THC, small_rotary_table({0, 6}, at::kDouble));
  EXPECT_EQ(distance(y_THC[0], x_THC[0]), 0);
  for (std::int64_t h = 0; h < 3; ++h) {
    for (std::int64_t c = 0; c < 2; ++c) {
      const double angle = 6.0 * (c == 0 ? 1.0 : 0.25);
      const auto real = x_THC[1][h][c].item<double>();
      const auto imaginary = x_THC[1][h][c + 2].item<double>();
      EXPECT_NEAR(y_THC[1][h][c].item<double>(),
                  real * std::cos(angle) - imaginary * std::sin(angle), 1e-6);
      EXPECT_NEAR(y_THC[1][h][c + 2].item<double>(),
                  imaginary * std::cos(angle) + real * std::sin(angle), 1e-6);
    }
  }
}

TEST(Rotary, a_product_of_two_turned_vectors_depends_on_their_distance_alone) {
  const auto q = normal({1, 1, 4}, 2);
  const auto k = normal({1, 1, 4}, 3);
  const auto product = [&](std::int64_t at_q, std::int64_t at_k) {
    return (rotate(q, small_rotary_table({at_q}, at::kDouble)) *
            rotate(k, small_rotary_table({at_k}, at::kDouble)))
        .sum()
        .item<double>();
  };
  EXPECT_NEAR(product(9, 4), product(25, 20), 1e-5);
  EXPECT_GT(std::abs(product(9, 4) - product(9, 5)), 1e-3);
}

TEST(Rotary, the_table_of_an_fp64_model_holds_the_fp32_values) {
  const auto wide = small_rotary_table({0, 1, 777}, at::kDouble);
  const auto narrow = small_rotary_table({0, 1, 777}, at::kFloat);
  EXPECT_EQ(wide.cos_T1C.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::equal(wide.cos_T1C, narrow.cos_T1C.to(at::kDouble)));
  EXPECT_TRUE(at::equal(wide.sin_T1C, narrow.sin_T1C.to(at::kDouble)));
  EXPECT_EQ(wide.cos_T1C.sizes(), (std::vector<std::int64_t>{3, 1, 4}));
}

TEST(Rotary, gradient_turns_backwards) {
  const auto x_THC = tests::normal_leaf({2, 2, 4}, 4);
  const auto dy_THC = normal({2, 2, 4}, 5);
  const auto table = small_rotary_table({3, 8}, at::kDouble);
  const auto dx = tests::gradients({rotate(x_THC, table)}, {dy_THC}, {x_THC})[0];
  const RotaryTable back{table.cos_T1C, -table.sin_T1C};
  EXPECT_LT(distance(dx, rotate(dy_THC, back)), 1e-14);
}

}  // namespace
}  // namespace dfmoa::ops
