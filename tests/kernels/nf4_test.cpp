#include "kernels/nf4.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "src/base/dtype.h"
#include "src/base/error.h"
#include "src/base/random.h"
#include "tests/kernels/forms.h"

using namespace dfmoa;
using namespace dfmoa::kernels;
using namespace dfmoa::kernels_test;

namespace {

using Floats = std::vector<float>;

struct Packed {
  std::vector<std::uint8_t> codes;
  Floats absmax;
  bool finite = false;

  [[nodiscard]] int code(std::size_t i) const {
    return i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15;
  }
};

Packed quantize(const Floats& in, std::int64_t block, CpuLevel level) {
  const auto count = static_cast<std::int64_t>(in.size());
  Packed packed;
  packed.codes.assign((in.size() + 1) / 2, 0xEE);
  packed.absmax.assign(static_cast<std::size_t>((count + block - 1) / block), -1.0F);
  packed.finite =
      nf4_quantize(in.data(), count, block, packed.codes.data(), packed.absmax.data(), level);
  return packed;
}

Floats normal_values(std::size_t count, std::uint64_t seed) {
  const base::KeyedRandom random(seed, {base::key_word("nf4")});
  Floats values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(random.normal(i) * 0.02);
  }
  return values;
}

/// A block whose largest magnitude is 1, so that scaled values are the values themselves.
Floats unit_block(std::size_t size, float fill) {
  Floats block(size, fill);
  block.back() = 1.0F;
  return block;
}

float bound(std::size_t i) {
  return (kNf4Codebook[i] + kNf4Codebook[i + 1]) / 2.0F;
}

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return bits;
}

}  // namespace

// Quantising has no CUDA form: it runs once, at conversion. All comparisons are bit for bit,
// because files written on one machine must equal those of another.
class Nf4 : public FormTest {
 protected:
  [[nodiscard]] CpuLevel level() const { return GetParam().level; }
};
INSTANTIATE_TEST_SUITE_P(Forms, Nf4, testing::ValuesIn(cpu_forms()), form_name);

TEST(Nf4Codebook, holds_the_published_bits) {
  constexpr std::array<std::uint32_t, 16> kBits = {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0,
                                                   0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000,
                                                   0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a,
                                                   0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000};
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(bits_of(kNf4Codebook[i]), kBits[i]) << i;
}

TEST_P(Nf4, every_level_codes_as_itself) {
  for (std::size_t i = 0; i < 16; ++i) {
    const Packed packed = quantize(unit_block(64, kNf4Codebook[i]), 64, level());
    EXPECT_EQ(packed.code(0), static_cast<int>(i));
    EXPECT_EQ(packed.code(63), 15);
  }
}

TEST_P(Nf4, a_tie_goes_to_the_lower_code) {
  for (std::size_t i = 0; i < 15; ++i) {
    EXPECT_EQ(quantize(unit_block(32, bound(i)), 32, level()).code(5), static_cast<int>(i));
    const float above = std::nextafter(bound(i), 2.0F);
    EXPECT_EQ(quantize(unit_block(32, above), 32, level()).code(5), static_cast<int>(i) + 1);
  }
}

TEST_P(Nf4, a_block_of_zeros_is_code_7_and_scale_0) {
  const Packed packed = quantize(Floats(128, 0.0F), 64, level());
  for (std::size_t i = 0; i < 128; ++i) EXPECT_EQ(packed.code(i), 7);
  EXPECT_EQ(packed.absmax, (Floats{0.0F, 0.0F}));
}

TEST_P(Nf4, a_tiny_scale_is_raised_before_it_is_inverted) {
  // 1 / 1e-39 would be infinite; against 1e-38 the value 1e-39 is 0.1: nearest level 8 (0.0796).
  const Packed full = quantize(Floats(32, 1e-39F), 32, level());
  EXPECT_EQ(full.code(0), 8);
  EXPECT_EQ(full.absmax[0], 1e-39F);
  const Packed tail = quantize(Floats(31, 1e-39F), 32, level());
  EXPECT_EQ(tail.code(0), 8);
  EXPECT_EQ(tail.absmax[0], 1e-38F);
}

TEST_P(Nf4, a_full_block_multiplies_by_the_reciprocal_and_a_short_one_divides) {
  // Searched: a pair (x, a) where x * (1/a) and x / a lie on two sides of a bound.
  float x = 0;
  float a = 0;
  const base::KeyedRandom random(3, {1});
  for (std::uint64_t i = 0; x == 0; ++i) {
    const auto scale = static_cast<float>(1.0 + random.uniform(i));
    float value = bound(9) * scale;
    for (int step = 0; step < 4; ++step, value = std::nextafter(value, 9.0F)) {
      if ((value * (1.0F / scale) > bound(9)) != (value / scale > bound(9))) {
        x = value;
        a = scale;
      }
    }
  }
  Floats block(64, x);
  block[1] = a;
  EXPECT_EQ(quantize(block, 64, level()).code(0), x * (1.0F / a) > bound(9) ? 10 : 9);
  block.resize(33);
  EXPECT_EQ(quantize(block, 64, level()).code(0), x / a > bound(9) ? 10 : 9);
}

TEST_P(Nf4, an_odd_count_is_padded_with_code_7) {
  const Packed packed = quantize(Floats(33, 1.0F), 32, level());
  EXPECT_EQ(packed.codes.size(), 17U);
  EXPECT_EQ(packed.codes.back(), 0xF7);
}

TEST_P(Nf4, equals_the_reference_for_every_block_size_and_odd_count) {
  for (std::int64_t block = 32; block <= 4096; block *= 2) {
    for (const std::size_t count : {0UL, 1UL, 31UL, 4096UL, 9001UL, 12288UL}) {
      const Floats in = normal_values(count, static_cast<std::uint64_t>(block));
      const Packed expected = quantize(in, block, CpuLevel::reference);
      const Packed packed = quantize(in, block, level());
      EXPECT_TRUE(packed.finite);
      EXPECT_EQ(packed.codes, expected.codes) << block << " " << count;
      EXPECT_EQ(packed.absmax, expected.absmax) << block << " " << count;
    }
  }
}

TEST_P(Nf4, nan_and_infinity_are_refused_in_blocks_and_tails) {
  for (const float bad : {std::nanf(""), -std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    for (const std::size_t at : {0UL, 13UL, 63UL, 64UL, 70UL}) {
      Floats in = normal_values(71, 1);
      in[at] = bad;
      EXPECT_FALSE(quantize(in, 64, level()).finite) << bad << " at " << at;
    }
  }
  EXPECT_TRUE(quantize(Floats(64, std::numeric_limits<float>::max()), 64, level()).finite);
}

TEST_P(Nf4, wrong_arguments_are_shape_errors) {
  Floats in(96, 1.0F);
  for (const std::int64_t block : {0, 16, 48, 8192, -64}) {
    EXPECT_FALSE(nf4_block_is_legal(block));
    std::uint8_t codes[64];
    float absmax[16];
    EXPECT_THROW((void)nf4_quantize(in.data(), 0, block, codes, absmax, level()), base::ShapeError);
    EXPECT_THROW(nf4_dequantize(codes, absmax, block, 0, 0, in.data(), level()), base::ShapeError);
  }
  const Packed packed = quantize(in, 32, level());
  const std::uint8_t* codes = packed.codes.data();
  EXPECT_THROW((void)nf4_quantize(in.data(), -1, 32, nullptr, nullptr, level()), base::ShapeError);
  EXPECT_THROW(nf4_dequantize(codes, packed.absmax.data(), 32, 16, 96, in.data(), level()),
               base::ShapeError);
  EXPECT_THROW(nf4_dequantize(codes, packed.absmax.data(), 32, 64, 32, in.data(), level()),
               base::ShapeError);
}
