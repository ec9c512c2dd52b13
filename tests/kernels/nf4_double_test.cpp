#include "kernels/nf4_double.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/base/random.h"

using namespace dfmoa;
using namespace dfmoa::kernels;

namespace {

std::vector<float> absmax_values(std::size_t count) {
  const base::KeyedRandom random(5, {9});
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(0.05 + 0.01 * random.normal(i));
  }
  return values;
}

}  // namespace

TEST(Nf4DynamicMap, holds_the_published_values) {
  const auto& map = nf4_dynamic_map();
  EXPECT_TRUE(std::is_sorted(map.begin(), map.end()));
  EXPECT_EQ(map[0], -0x1.fc6666p-1F);  // -0.99296874
  EXPECT_EQ(map[127], 0.0F);
  EXPECT_EQ(map[128], 0x1.27476ep-21F);  // 5.5e-7, the lowest decade's only value
  EXPECT_EQ(map[255], 1.0F);
  for (std::size_t i = 1; i < 127; ++i) EXPECT_EQ(map[127 - i], -map[127 + i]) << i;
}

TEST(Nf4DynamicMap, holds_the_published_bits) {
  // FNV-1a over the 1,024 little-endian bytes, whose SHA-256 begins e732639a65f497b4.
  std::string_view bytes(reinterpret_cast<const char*>(nf4_dynamic_map().data()), 1024);
  EXPECT_EQ(base::key_word(bytes), 0xd677f22a96665bc4ULL);
}

TEST(Nf4Double, map_values_code_as_themselves) {
  // Values far enough apart for the grid of 65,536 points: all but the lowest three decades.
  const auto& map = nf4_dynamic_map();
  std::vector<float> absmax(map.begin(), map.end());
  const Nf4DoubleAbsmax packed = nf4_double_quantize(absmax.data(), 256, 0.0F);
  for (std::size_t i = 0; i < 256; ++i) {
    if (std::fabs(map[i]) > 1e-3F) {
      EXPECT_EQ(packed.q[i], i);
    }
  }
}

TEST(Nf4Double, a_block_that_equals_its_offset_is_code_0_and_comes_back_exactly) {
  const std::vector<float> absmax(300, 0.5F);
  const Nf4DoubleAbsmax packed = nf4_double_quantize(absmax.data(), 300);
  EXPECT_EQ(packed.offset, 0.5F);
  EXPECT_EQ(packed.q, std::vector<std::uint8_t>(300, 0));
  EXPECT_EQ(packed.absmax2, (std::vector<float>{0.0F, 0.0F}));
  std::vector<float> back(300);
  nf4_double_dequantize(packed.q.data(), packed.absmax2.data(), packed.offset, 300, 256,
                        nf4_dynamic_map(), back.data());
  EXPECT_EQ(back, absmax);
}

TEST(Nf4Double, comes_back_within_half_a_step_of_the_map) {
  const std::vector<float> absmax = absmax_values(1000);
  const Nf4DoubleAbsmax packed = nf4_double_quantize(absmax.data(), 1000);
  ASSERT_EQ(packed.absmax2.size(), 4U);
  std::vector<float> back(1000);
  nf4_double_dequantize(packed.q.data(), packed.absmax2.data(), packed.offset, 1000, 256,
                        nf4_dynamic_map(), back.data());
  for (std::size_t i = 0; i < 1000; ++i) {
    // The map's widest step is 0.0141 of the scale; the grid adds 1/65,535.
    EXPECT_LE(std::fabs(back[i] - absmax[i]), 0.00706F * packed.absmax2[i / 256]) << i;
  }
}

TEST(Nf4Double, dequantising_rounds_the_product_before_it_adds) {
  // q 254 = 0.99296874: with a fused multiply-add the sum's last bit would differ.
  const std::uint8_t q = 254;
  const auto& map = nf4_dynamic_map();
  const base::KeyedRandom random(1, {2});
  int fused_differs = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto scale = static_cast<float>(random.uniform(2 * i));
    const auto offset = static_cast<float>(random.uniform(2 * i + 1));
    float absmax = 0;
    nf4_double_dequantize(&q, &scale, offset, 1, 256, map, &absmax);
    const volatile float product = map[254] * scale;
    EXPECT_EQ(absmax, product + offset);
    fused_differs += std::fma(map[254], scale, offset) != absmax;
  }
  EXPECT_GT(fused_differs, 0);
}

TEST(Nf4Double, no_values_give_no_bytes) {
  const Nf4DoubleAbsmax packed = nf4_double_quantize(nullptr, 0);
  EXPECT_TRUE(packed.q.empty());
  EXPECT_TRUE(packed.absmax2.empty());
  EXPECT_EQ(packed.offset, 0.0F);
}
