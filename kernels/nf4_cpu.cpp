// The readable form of NF4: what every other form must equal bit for bit.
#include <cmath>

#include "kernels/nf4.h"
#include "kernels/nf4_levels.h"
#include "src/base/dtype.h"

namespace dfmoa::kernels {
namespace {

constexpr Nf4Tables make_tables() {
  Nf4Tables tables{};
  for (std::size_t i = 0; i < 16; ++i) tables.code[i] = kNf4Codebook[i];
  for (std::size_t i = 0; i < 15; ++i) {
    tables.bound[i] = (kNf4Codebook[i] + kNf4Codebook[i + 1]) / 2.0F;
  }
  tables.bound[15] = HUGE_VALF;
  return tables;
}

std::uint8_t code_of(float value) {
  std::uint8_t code = 0;
  while (value > kNf4Tables.bound[code]) ++code;
  return code;
}

void put_code(std::uint8_t* codes, std::int64_t index, std::uint8_t code) {
  std::uint8_t& byte = codes[index / 2];
  byte = static_cast<std::uint8_t>(index % 2 == 0 ? code << 4 : (byte & 0xF0) | code);
}

std::uint8_t get_code(const std::uint8_t* codes, std::int64_t index) {
  const std::uint8_t byte = codes[index / 2];
  return index % 2 == 0 ? byte >> 4 : byte & 0x0F;
}

/// False when a value is not finite.
bool largest_magnitude(const float* in, std::int64_t count, float* largest) {
  *largest = 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(in[i])) return false;
    *largest = std::fmax(*largest, std::fabs(in[i]));
  }
  return true;
}

template <class Out, class Round>
void dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                std::int64_t count, Out* out, Round round) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = round(kNf4Tables.code[get_code(codes, i)] * absmax[i / block]);
  }
}

}  // namespace

constinit const Nf4Tables kNf4Tables = make_tables();

bool nf4_quantize_blocks_reference(const float* in, std::int64_t count, std::int64_t block,
                                   std::uint8_t* codes, float* absmax) {
  for (std::int64_t begin = 0; begin < count; begin += block) {
    float& largest = absmax[begin / block];
    if (!largest_magnitude(in + begin, block, &largest)) return false;
    const float inverse = 1.0F / std::fmax(largest, kNf4SmallestScale);
    for (std::int64_t i = begin; i < begin + block; ++i) {
      put_code(codes, i, code_of(in[i] * inverse));
    }
  }
  return true;
}

bool nf4_quantize_tail(const float* in, std::int64_t count, std::uint8_t* codes, float* absmax) {
  if (!largest_magnitude(in, count, absmax)) return false;
  // Unlike a full block's, a short block's stored scale is the raised one: bitsandbytes does so.
  *absmax = std::fmax(*absmax, kNf4SmallestScale);
  for (std::int64_t i = 0; i < count; ++i) put_code(codes, i, code_of(in[i] / *absmax));
  if (count % 2 != 0) put_code(codes, count, kNf4ZeroCode);
  return true;
}

void nf4_dequantize_reference(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                              std::int64_t count, float* out) {
  dequantize(codes, absmax, block, count, out, [](float value) { return value; });
}

void nf4_dequantize_reference(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                              std::int64_t count, std::uint16_t* out) {
  dequantize(codes, absmax, block, count, out, [](float value) { return base::to_bf16(value); });
}

}  // namespace dfmoa::kernels
