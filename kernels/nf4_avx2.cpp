// NF4 on AVX2: a table of the block's 16 finished values, looked up by shuffles.
#include <immintrin.h>

#include "kernels/nf4_levels.h"

namespace dfmoa::kernels {
namespace {

/// Eight values among 16: two shuffles of eight, chosen between by bit 3 of the index.
__m256 look_up(__m256 low, __m256 high, __m256i index) {
  const __m256 from_low = _mm256_permutevar8x32_ps(low, index);
  const __m256 from_high = _mm256_permutevar8x32_ps(high, index);
  return _mm256_blendv_ps(from_low, from_high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

void put(float* out, __m256 value, bool stream) {
  if (stream) {
    _mm256_stream_ps(out, value);
  } else {
    _mm256_storeu_ps(out, value);
  }
}

void put(std::uint16_t* out, __m256i value, bool stream) {
  if (stream) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(out), value);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), value);
  }
}

bool streams(const void* out, std::int64_t bytes) {
  return bytes >= kNf4StreamBytes && reinterpret_cast<std::uintptr_t>(out) % 32 == 0;
}

/// bf16 bits of eight finite values, each in the low half of 32 bits: round to nearest even.
__m256i bf16_bits(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
}

/// One byte of each of the block's 16 bf16 values, in both lanes.
struct ByteTables {
  __m256i low;
  __m256i high;
};

ByteTables byte_tables(__m256 first, __m256 last) {
  const __m256i pairs = _mm256_permute4x64_epi64(
      _mm256_packus_epi32(bf16_bits(first), bf16_bits(last)), _MM_SHUFFLE(3, 1, 2, 0));
  const __m128i front = _mm256_castsi256_si128(pairs);
  const __m128i back = _mm256_extracti128_si256(pairs, 1);
  const __m128i low_byte = _mm_set1_epi16(0x00FF);
  const __m128i low =
      _mm_packus_epi16(_mm_and_si128(front, low_byte), _mm_and_si128(back, low_byte));
  const __m128i high = _mm_packus_epi16(_mm_srli_epi16(front, 8), _mm_srli_epi16(back, 8));
  return {_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high)};
}

/// The codes of 32 elements, one a byte, in order.
__m256i unpack_codes(const std::uint8_t* codes) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  const __m128i mask = _mm_set1_epi8(0x0F);
  const __m128i even = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask);
  const __m128i odd = _mm_and_si128(bytes, mask);
  return _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
}

/// Eight codes by binary search in the 15 bounds; every index counts the bounds below.
__m256i code_of(__m256 value) {
  const float* b = kNf4Tables.bound;
  const __m256 second = _mm256_setr_ps(b[3], b[11], b[3], b[11], b[3], b[11], b[3], b[11]);
  const __m256 third = _mm256_setr_ps(b[1], b[5], b[9], b[13], b[1], b[5], b[9], b[13]);
  const __m256 fourth = _mm256_setr_ps(b[0], b[2], b[4], b[6], b[8], b[10], b[12], b[14]);
  const auto above = [value](__m256 bound) {
    return _mm256_castps_si256(_mm256_cmp_ps(value, bound, _CMP_GT_OQ));
  };
  __m256i index = _mm256_sub_epi32(_mm256_setzero_si256(), above(_mm256_set1_ps(b[7])));
  index = _mm256_sub_epi32(_mm256_add_epi32(index, index),
                           above(_mm256_permutevar8x32_ps(second, index)));
  index = _mm256_sub_epi32(_mm256_add_epi32(index, index),
                           above(_mm256_permutevar8x32_ps(third, index)));
  return _mm256_sub_epi32(_mm256_add_epi32(index, index),
                          above(_mm256_permutevar8x32_ps(fourth, index)));
}

/// 32 codes to 16 bytes, the even element in the high half.
void pack_codes(const __m256i (&code)[4], std::uint8_t* out) {
  const __m256i halves = _mm256_packus_epi16(_mm256_packus_epi32(code[0], code[1]),
                                             _mm256_packus_epi32(code[2], code[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i in_order = _mm256_permutevar8x32_epi32(halves, order);
  const __m256i words = _mm256_maddubs_epi16(in_order, _mm256_set1_epi16(0x0110));
  const __m256i bytes =
      _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), _MM_SHUFFLE(3, 1, 2, 0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(bytes));
}

/// The largest magnitude's bits: as unsigned integers magnitudes keep their order, and NaN and
/// infinity come out on top instead of being lost in a comparison.
std::uint32_t largest_bits(const float* in, std::int64_t count) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  __m256i largest = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < count; i += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
    largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, magnitude));
  }
  __m128i rest =
      _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  rest = _mm_max_epu32(rest, _mm_shuffle_epi32(rest, _MM_SHUFFLE(1, 0, 3, 2)));
  rest = _mm_max_epu32(rest, _mm_shuffle_epi32(rest, _MM_SHUFFLE(2, 3, 0, 1)));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(rest));
}

}  // namespace

void nf4_dequantize_avx2(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                         std::int64_t count, float* out) {
  const bool stream = streams(out, count * 4);
  const __m256i even_first = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
  for (std::int64_t begin = 0; begin < count; begin += block) {
    const __m256 scale = _mm256_set1_ps(*absmax++);
    const __m256 low = _mm256_mul_ps(_mm256_load_ps(kNf4Tables.code), scale);
    const __m256 high = _mm256_mul_ps(_mm256_load_ps(kNf4Tables.code + 8), scale);
    for (std::int64_t i = 0; i < block; i += 8, codes += 4, out += 8) {
      int eight = 0;
      __builtin_memcpy(&eight, codes, 4);
      const __m256i index = _mm256_srlv_epi32(_mm256_set1_epi32(eight), even_first);
      put(out, look_up(low, high, index), stream);
    }
  }
  if (stream) _mm_sfence();
}

void nf4_dequantize_avx2(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                         std::int64_t count, std::uint16_t* out) {
  const bool stream = streams(out, count * 2);
  for (std::int64_t begin = 0; begin < count; begin += block) {
    const __m256 scale = _mm256_set1_ps(*absmax++);
    const ByteTables table = byte_tables(_mm256_mul_ps(_mm256_load_ps(kNf4Tables.code), scale),
                                         _mm256_mul_ps(_mm256_load_ps(kNf4Tables.code + 8), scale));
    for (std::int64_t i = 0; i < block; i += 32, codes += 16, out += 32) {
      const __m256i index = unpack_codes(codes);
      const __m256i low = _mm256_shuffle_epi8(table.low, index);
      const __m256i high = _mm256_shuffle_epi8(table.high, index);
      const __m256i front = _mm256_unpacklo_epi8(low, high);  // elements 0-7 and 16-23
      const __m256i back = _mm256_unpackhi_epi8(low, high);   // elements 8-15 and 24-31
      put(out, _mm256_permute2x128_si256(front, back, 0x20), stream);
      put(out + 16, _mm256_permute2x128_si256(front, back, 0x31), stream);
    }
  }
  if (stream) _mm_sfence();
}

bool nf4_quantize_blocks_avx2(const float* in, std::int64_t count, std::int64_t block,
                              std::uint8_t* codes, float* absmax) {
  for (std::int64_t begin = 0; begin < count; begin += block) {
    const std::uint32_t bits = largest_bits(in + begin, block);
    if (bits >= 0x7F800000U) return false;
    float largest = 0.0F;
    __builtin_memcpy(&largest, &bits, 4);
    absmax[begin / block] = largest;
    const __m256 inverse =
        _mm256_set1_ps(1.0F / (largest < kNf4SmallestScale ? kNf4SmallestScale : largest));
    for (std::int64_t i = begin; i < begin + block; i += 32) {
      __m256i code[4];
      for (int part = 0; part < 4; ++part) {
        code[part] = code_of(_mm256_mul_ps(_mm256_loadu_ps(in + i + 8 * part), inverse));
      }
      pack_codes(code, codes + i / 2);
    }
  }
  return true;
}

}  // namespace dfmoa::kernels
