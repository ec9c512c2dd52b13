#include "kernels/nf4.h"

#include <algorithm>
#include <array>
#include <bit>

#include "kernels/nf4_levels.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::kernels {
namespace {

void check_block(const char* verb, std::int64_t block) {
  if (!nf4_block_is_legal(block)) {
    throw base::ShapeError(base::text(verb, ": the block size is ", block,
                                      ", expected a power of two from 32 to 4096"));
  }
}

void check_range(std::int64_t block, std::int64_t begin, std::int64_t end) {
  check_block("nf4_dequantize", block);
  if (begin < 0 || end < begin || begin % block != 0) {
    throw base::ShapeError(base::text("nf4_dequantize: the range is [", begin, ", ", end,
                                      "), expected it to begin at a multiple of the block size ",
                                      block));
  }
}

template <class Out>
void dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                std::int64_t begin, std::int64_t end, Out* out, CpuLevel level) {
  check_range(block, begin, end);
  codes += begin / 2;
  absmax += begin / block;
  const std::int64_t count = end - begin;
  // The vector forms take whole blocks; what is left of the last one goes to the readable form.
  const std::int64_t vector_count = level == CpuLevel::reference ? 0 : count - count % block;
  if (level == CpuLevel::avx512) {
    nf4_dequantize_avx512(codes, absmax, block, vector_count, out);
  } else if (level == CpuLevel::avx2) {
    nf4_dequantize_avx2(codes, absmax, block, vector_count, out);
  }
  nf4_dequantize_reference(codes + vector_count / 2, absmax + vector_count / block, block,
                           count - vector_count, out + vector_count);
}

}  // namespace

bool nf4_block_is_legal(std::int64_t block) {
  return block >= 32 && block <= 4096 && std::has_single_bit(static_cast<std::uint64_t>(block));
}

bool nf4_quantize(const float* in, std::int64_t count, std::int64_t block, std::uint8_t* codes,
                  float* absmax, CpuLevel level) {
  check_block("nf4_quantize", block);
  if (count < 0) {
    throw base::ShapeError(base::text("nf4_quantize: the count is ", count, ", expected >= 0"));
  }
  const std::int64_t full = count - count % block;
  bool finite = false;
  switch (level) {
    case CpuLevel::reference:
      finite = nf4_quantize_blocks_reference(in, full, block, codes, absmax);
      break;
    case CpuLevel::avx2:
      finite = nf4_quantize_blocks_avx2(in, full, block, codes, absmax);
      break;
    case CpuLevel::avx512:
      finite = nf4_quantize_blocks_avx512(in, full, block, codes, absmax);
      break;
  }
  if (!finite || full == count) return finite;
  return nf4_quantize_tail(in + full, count - full, codes + full / 2, absmax + full / block);
}

void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, float* out, CpuLevel level) {
  dequantize(codes, absmax, block, begin, end, out, level);
}

void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, std::uint16_t* out, CpuLevel level) {
  dequantize(codes, absmax, block, begin, end, out, level);
}

void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, double* out, CpuLevel level) {
  check_range(block, begin, end);
  std::array<float, 4096> panel;  // one block of the largest legal size
  for (std::int64_t at = begin; at < end; at += block) {
    const std::int64_t stop = std::min(at + block, end);
    dequantize(codes, absmax, block, at, stop, panel.data(), level);
    std::copy(panel.data(), panel.data() + (stop - at), out + (at - begin));
  }
}

}  // namespace dfmoa::kernels
