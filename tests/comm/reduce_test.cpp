#include "distributed/comm/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "src/base/error.h"

namespace dfmoa::comm {
namespace {

std::uint16_t reduce_bf16(const std::vector<float>& values, Op op) {
  std::vector<std::uint16_t> bits;
  for (const float value : values) bits.push_back(base::to_bf16(value));
  std::vector<const void*> parts;
  for (const auto& one : bits) parts.push_back(&one);
  std::uint16_t out = 0;
  reduce_parts(&out, parts, 1, base::DType::bf16, op);
  return out;
}

TEST(ReduceParts, bf16_is_rounded_once) {
  // Rounded after each addition, 256 + 1 stays 256 for ever.
  EXPECT_EQ(base::from_bf16(reduce_bf16({256, 1, 1, 1, 1}, Op::sum)), 260.0F);
  EXPECT_EQ(base::from_bf16(reduce_bf16({-3, 2, -7}, Op::min)), -7.0F);
  EXPECT_EQ(base::from_bf16(reduce_bf16({-3, 2, -7}, Op::max)), 2.0F);
}

TEST(ReduceParts, adds_in_the_order_of_the_parts) {
  const float large = 1e8F;
  const float one = 1;
  const float minus = -1e8F;
  float out = 0;
  reduce_parts(&out, std::vector<const void*>{&large, &one, &minus}, 1, base::DType::f32, Op::sum);
  EXPECT_EQ(out, 0.0F);
  reduce_parts(&out, std::vector<const void*>{&large, &minus, &one}, 1, base::DType::f32, Op::sum);
  EXPECT_EQ(out, 1.0F);
}

TEST(ReduceParts, no_nan_gets_lost) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double one = 1;
  for (const auto op : {Op::sum, Op::max, Op::min}) {
    for (const auto& parts :
         {std::vector<const void*>{&nan, &one, &one}, std::vector<const void*>{&one, &nan, &one},
          std::vector<const void*>{&one, &one, &nan}}) {
      double out = 0;
      reduce_parts(&out, parts, 1, base::DType::f64, op);
      EXPECT_TRUE(std::isnan(out));
    }
    EXPECT_TRUE(std::isnan(
        base::from_bf16(reduce_bf16({1, std::numeric_limits<float>::quiet_NaN(), 1}, op))));
  }
}

TEST(ReduceParts, out_may_be_the_first_part) {
  std::vector<std::int64_t> a = {1, 2, 3};
  const std::vector<std::int64_t> b = {10, 0, -5};
  reduce_parts(a.data(), std::vector<const void*>{a.data(), b.data()}, 3, base::DType::i64,
               Op::max);
  EXPECT_EQ(a, (std::vector<std::int64_t>{10, 2, 3}));
}

TEST(ReduceParts, refuses_types_that_nothing_reduces_and_no_parts) {
  std::uint8_t a = 1;
  const std::vector<const void*> parts = {&a};
  EXPECT_THROW(reduce_parts(&a, parts, 1, base::DType::u8, Op::sum), base::ShapeError);
  EXPECT_THROW(reduce_parts(&a, parts, 1, base::DType::f16, Op::max), base::ShapeError);
  EXPECT_THROW(reduce_parts(&a, {}, 1, base::DType::f32, Op::sum), base::ShapeError);
}

}  // namespace
}  // namespace dfmoa::comm
