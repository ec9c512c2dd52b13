// NF4 on AVX-512 (F, BW, DQ, VL): the block's 16 finished values fit one register.
#include <immintrin.h>

#include "kernels/nf4_levels.h"

namespace dfmoa::kernels {
namespace {

void put(void* out, __m512i value, bool stream) {
  if (stream) {
    _mm512_stream_si512(static_cast<__m512i*>(out), value);
  } else {
    _mm512_storeu_si512(out, value);
  }
}

bool streams(const void* out, std::int64_t bytes) {
  return bytes >= kNf4StreamBytes && reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
}

/// The block's 16 values as bf16, twice, so that bit 4 of an index does not matter.
__m512i word_table(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
  const __m256i words = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16));
  return _mm512_inserti64x4(_mm512_castsi256_si512(words), words, 1);
}

/// 16 codes by binary search in the 15 bounds.
__m512i code_of(__m512 value) {
  const __m512 bound = _mm512_load_ps(kNf4Tables.bound);
  const auto step = [value, bound](__m512i code, int ahead, int add) {
    const __m512i at = _mm512_add_epi32(code, _mm512_set1_epi32(ahead));
    const __mmask16 above = _mm512_cmp_ps_mask(value, _mm512_permutexvar_ps(at, bound), _CMP_GT_OQ);
    return _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(add));
  };
  return step(step(step(step(_mm512_setzero_si512(), 7, 8), 3, 4), 1, 2), 0, 1);
}

/// See nf4_avx2.cpp: integer order keeps NaN and infinity on top.
std::uint32_t largest_bits(const float* in, std::int64_t count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  __m512i largest = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < count; i += 16) {
    largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_loadu_si512(in + i), magnitude));
  }
  return _mm512_reduce_max_epu32(largest);
}

}  // namespace

void nf4_dequantize_avx512(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                           std::int64_t count, float* out) {
  const bool stream = streams(out, count * 4);
  const __m512i even_first =
      _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24);
  const __m512i front = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const __m512i back = _mm512_setr_epi32(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m512 code = _mm512_load_ps(kNf4Tables.code);
  for (std::int64_t begin = 0; begin < count; begin += block) {
    const __m512 table = _mm512_mul_ps(code, _mm512_set1_ps(*absmax++));
    for (std::int64_t i = 0; i < block; i += kNf4Unit, codes += 16, out += 32) {
      const __m512i bytes =
          _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
      // The look-up reads four bits of an index: what the shift leaves above them is ignored.
      const __m512i first = _mm512_srlv_epi32(_mm512_permutexvar_epi32(front, bytes), even_first);
      const __m512i last = _mm512_srlv_epi32(_mm512_permutexvar_epi32(back, bytes), even_first);
      put(out, _mm512_castps_si512(_mm512_permutexvar_ps(first, table)), stream);
      put(out + 16, _mm512_castps_si512(_mm512_permutexvar_ps(last, table)), stream);
    }
  }
  if (stream) _mm_sfence();
}

void nf4_dequantize_avx512(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                           std::int64_t count, std::uint16_t* out) {
  const bool stream = streams(out, count * 2);
  const __m512 code = _mm512_load_ps(kNf4Tables.code);
  for (std::int64_t begin = 0; begin < count; begin += block) {
    const __m512i table = word_table(_mm512_mul_ps(code, _mm512_set1_ps(*absmax++)));
    for (std::int64_t i = 0; i < block; i += kNf4Unit, codes += 16, out += 32) {
      const __m512i bytes =
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
      // Low word: the high half of the byte (the even element); high word: the byte itself.
      const __m512i index =
          _mm512_or_si512(_mm512_srli_epi32(bytes, 4), _mm512_slli_epi32(bytes, 16));
      put(out, _mm512_permutexvar_epi16(index, table), stream);
    }
  }
  if (stream) _mm_sfence();
}

bool nf4_quantize_blocks_avx512(const float* in, std::int64_t count, std::int64_t block,
                                std::uint8_t* codes, float* absmax) {
  for (std::int64_t begin = 0; begin < count; begin += block) {
    const std::uint32_t bits = largest_bits(in + begin, block);
    if (bits >= 0x7F800000U) return false;
    float largest = 0.0F;
    __builtin_memcpy(&largest, &bits, 4);
    absmax[begin / block] = largest;
    const __m512 inverse =
        _mm512_set1_ps(1.0F / (largest < kNf4SmallestScale ? kNf4SmallestScale : largest));
    for (std::int64_t i = begin; i < begin + block; i += 16) {
      const __m512i code = code_of(_mm512_mul_ps(_mm512_loadu_ps(in + i), inverse));
      const __m128i words = _mm_maddubs_epi16(_mm512_cvtepi32_epi8(code), _mm_set1_epi16(0x0110));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + i / 2), _mm_packus_epi16(words, words));
    }
  }
  return true;
}

}  // namespace dfmoa::kernels
