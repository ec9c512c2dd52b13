#include "src/formats/gguf_dequantize.h"

#include <array>
#include <numeric>

#include "src/base/error.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

constexpr std::uint16_t kHalf = 0x3800;     // fp16 0.5
constexpr std::uint16_t kMinus = 0xBC00;    // fp16 -1
constexpr std::uint16_t kQuarter = 0x3400;  // fp16 0.25

std::vector<float> dequantized(GgufType type, const std::vector<std::int64_t>& shape,
                               const std::string& bytes, std::int64_t begin, std::int64_t end) {
  const GgufTensor tensor{"w", type, shape, std::as_bytes(std::span(bytes))};
  std::vector<float> out(static_cast<std::size_t>((end - begin) * tensor.columns()));
  dequantize(tensor, begin, end, out.data());
  return out;
}

/// The one block that `bytes` hold.
std::vector<float> block(GgufType type, const std::string& bytes) {
  EXPECT_EQ(static_cast<std::int64_t>(bytes.size()), block_of(type).bytes);
  return dequantized(type, {block_of(type).elements}, bytes, 0, 1);
}

/// Bytes 0x10, 0x32, ...: byte j holds code 2j (mod 16) low and 2j + 1 high.
std::string nibbles(std::size_t bytes) {
  std::string out;
  for (std::size_t j = 0; j < bytes; ++j) {
    out.push_back(static_cast<char>((2 * j) % 16 | ((2 * j + 1) % 16) << 4));
  }
  return out;
}

TEST(GgufDequantize, floating_types_widen_exactly) {
  EXPECT_EQ(block(GgufType::f32, raw(0.1F)).front(), 0.1F);
  EXPECT_EQ(block(GgufType::f16, raw<std::uint16_t>(0x3555)).front(), 0.333251953125F);
  EXPECT_EQ(block(GgufType::f16, raw<std::uint16_t>(0x0001)).front(), 0x1p-24F);
  EXPECT_EQ(block(GgufType::bf16, raw<std::uint16_t>(0xC049)).front(), -3.140625F);
}

TEST(GgufDequantize, q8_0_scales_signed_codes) {
  std::string codes(32, '\0');
  codes[0] = -128;
  codes[31] = 127;
  const auto out = block(GgufType::q8_0, raw(kHalf) + codes);
  EXPECT_EQ(out[0], -64.0F);
  EXPECT_EQ(out[1], 0.0F);
  EXPECT_EQ(out[31], 63.5F);
}

TEST(GgufDequantize, four_bit_codes_fill_the_low_half_first) {
  const auto plain = block(GgufType::q4_0, raw(kHalf) + nibbles(16));
  const auto offset = block(GgufType::q4_1, raw(kHalf) + raw(kMinus) + nibbles(16));
  for (std::size_t j = 0; j < 32; ++j) {
    const auto code = static_cast<float>(j < 16 ? (2 * j) % 16 : (2 * (j - 16) + 1) % 16);
    EXPECT_EQ(plain[j], 0.5F * (code - 8)) << j;
    EXPECT_EQ(offset[j], 0.5F * code - 1) << j;
  }
}

TEST(GgufDequantize, fifth_bit_adds_16_to_its_own_element) {
  const auto fifth = raw<std::uint32_t>(1U << 3 | 1U << 20);
  const auto plain = block(GgufType::q5_0, raw(kHalf) + fifth + std::string(16, '\0'));
  const auto offset =
      block(GgufType::q5_1, raw(kHalf) + raw(kMinus) + fifth + std::string(16, '\0'));
  for (std::size_t j = 0; j < 32; ++j) {
    const float code = j == 3 || j == 20 ? 16.0F : 0.0F;
    EXPECT_EQ(plain[j], 0.5F * (code - 16)) << j;
    EXPECT_EQ(offset[j], 0.5F * code - 1) << j;
  }
}

TEST(GgufDequantize, k_groups_unpack_their_six_bit_scales_and_minima) {
  // Scales 1..4 then 49..52 (low 4 bits 1..4, high bits 3); minima 5..8 then 5 + 16, ..., 8 + 16.
  std::string packed(12, '\0');
  for (int i = 0; i < 4; ++i) {
    const auto at = static_cast<std::size_t>(i);
    packed[at] = static_cast<char>((i + 1) | 3 << 6);
    packed[at + 4] = static_cast<char>((i + 5) | 1 << 6);
    packed[at + 8] = static_cast<char>((i + 1) | (i + 5) << 4);
  }
  const auto head = raw(kHalf) + raw(kQuarter) + packed;
  const auto four = block(GgufType::q4_k, head + std::string(128, '\x73'));  // low 3, high 7
  std::string fifth(32, '\0');
  fifth[2] = '\x40';  // group 6, element 2
  const auto five = block(GgufType::q5_k, head + fifth + std::string(128, '\x73'));
  for (std::size_t i = 0; i < 256; ++i) {
    const auto group = i / 32;
    const auto scale = static_cast<float>(group < 4 ? group + 1 : group - 3 + 48);
    const auto minimum = static_cast<float>(group < 4 ? group + 5 : group + 1 + 16);
    const float code = group % 2 == 0 ? 3.0F : 7.0F;
    EXPECT_EQ(four[i], 0.5F * scale * code - 0.25F * minimum) << i;
    const float more = i == 6 * 32 + 2 ? 16.0F : 0.0F;
    EXPECT_EQ(five[i], 0.5F * scale * (code + more) - 0.25F * minimum) << i;
  }
}

TEST(GgufDequantize, q6_k_joins_low_and_high_bits_under_sixteen_scales) {
  std::string scales(16, '\0');
  std::iota(scales.begin(), scales.end(), static_cast<char>(-8));
  // Low nibbles 5 and 9; high pairs 0, 1, 2, 3 for the four quarters of each half.
  const auto out = block(GgufType::q6_k,
                         std::string(128, '\x95') + std::string(64, '\xE4') + scales + raw(kHalf));
  for (std::size_t i = 0; i < 256; ++i) {
    const auto quarter = i / 32 % 4;
    const float low = quarter < 2 ? 5.0F : 9.0F;
    const float code = low + 16.0F * static_cast<float>(quarter) - 32.0F;
    const float scale = static_cast<float>(i / 16) - 8.0F;
    EXPECT_EQ(out[i], 0.5F * scale * code) << i;
  }
}

TEST(GgufDequantize, row_ranges_equal_the_whole) {
  std::string bytes;
  for (std::uint16_t row = 0; row < 6; ++row) {  // (2, 3, 64): two blocks a row
    for (int half = 0; half < 2; ++half) {
      bytes += raw(static_cast<std::uint16_t>(kHalf + row)) + nibbles(16);
    }
  }
  const auto whole = dequantized(GgufType::q4_0, {2, 3, 64}, bytes, 0, 6);
  for (std::int64_t row = 0; row < 6; ++row) {
    const auto one = dequantized(GgufType::q4_0, {2, 3, 64}, bytes, row, row + 1);
    EXPECT_TRUE(std::equal(one.begin(), one.end(), whole.begin() + row * 64)) << row;
  }
  EXPECT_TRUE(dequantized(GgufType::q4_0, {2, 3, 64}, bytes, 6, 6).empty());
}

TEST(GgufDequantize, rows_outside_the_tensor_are_refused) {
  const std::string bytes(8, '\0');
  const GgufTensor tensor{"w", GgufType::f32, {2, 1}, std::as_bytes(std::span(bytes))};
  std::array<float, 2> out{};
  const auto refuse = [&](std::int64_t begin, std::int64_t end) {
    EXPECT_TRUE(
        contains(sentence_of<base::ShapeError>([&] { dequantize(tensor, begin, end, out.data()); }),
                 "of tensor 'w', which has 2"));
  };
  refuse(-1, 1);
  refuse(1, 3);
  refuse(2, 1);
}

}  // namespace
}  // namespace dfmoa::formats
