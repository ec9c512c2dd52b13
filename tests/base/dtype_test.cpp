#include "src/base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

#include "src/base/error.h"

using namespace dfmoa::base;

TEST(DType, names_and_sizes_go_both_ways) {
  for (auto dtype : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::u8}) {
    EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
  }
  EXPECT_EQ(size_of(DType::bf16), 2U);
  EXPECT_THROW((void)dtype_from_name("F8_E4M3"), ContentError);
}

TEST(DType, half_formats_widen_exactly) {
  EXPECT_EQ(from_f16(0x3C00), 1.0F);
  EXPECT_EQ(from_f16(0xC000), -2.0F);
  EXPECT_EQ(from_f16(0x0001), std::ldexp(1.0F, -24));
  EXPECT_EQ(from_f16(0x7BFF), 65504.0F);
  EXPECT_TRUE(std::isinf(from_f16(0x7C00)));
  EXPECT_TRUE(std::isnan(from_f16(0x7E00)));
  EXPECT_EQ(from_bf16(0x3F80), 1.0F);
}

TEST(DType, bf16_rounds_to_nearest_even) {
  EXPECT_EQ(to_bf16(1.0F), 0x3F80);
  EXPECT_EQ(to_bf16(1.0F + 0x1p-8F), 0x3F80);            // tie, even below
  EXPECT_EQ(to_bf16(1.0F + 0x1p-7F + 0x1p-8F), 0x3F82);  // tie, even above
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(NAN))));
}
