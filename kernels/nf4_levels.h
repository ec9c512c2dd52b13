// What the forms of the NF4 kernels share. They see whole, checked arguments from nf4.cpp.
//
// A file compiled for one instruction set must not emit code that another file could end up using,
// so this header holds plain data and declarations only: no inline function, no std template.
#pragma once

#include <cstdint>

namespace dfmoa::kernels {

/// Codebook and the 15 bounds between its values; code(x) = number of bounds below x.
struct Nf4Tables {
  alignas(64) float code[16];
  alignas(64) float bound[16];  ///< the last one is +infinity: no code lies above 15
};
extern const Nf4Tables kNf4Tables;

/// A scale below this is raised to it, so that its reciprocal stays finite.
inline constexpr float kNf4SmallestScale = 1e-38F;

/// Elements that the vector forms take at a time; every legal block is a multiple.
inline constexpr std::int64_t kNf4Unit = 32;

/// From this size on, output that nobody reads soon bypasses the caches.
inline constexpr std::int64_t kNf4StreamBytes = std::int64_t{4} << 20;

/// Full blocks only: count is a multiple of block. Returns false on NaN or infinity.
bool nf4_quantize_blocks_reference(const float* in, std::int64_t count, std::int64_t block,
                                   std::uint8_t* codes, float* absmax);
bool nf4_quantize_blocks_avx2(const float* in, std::int64_t count, std::int64_t block,
                              std::uint8_t* codes, float* absmax);
bool nf4_quantize_blocks_avx512(const float* in, std::int64_t count, std::int64_t block,
                                std::uint8_t* codes, float* absmax);

/// The last block when it is short: 0 < count < block.
bool nf4_quantize_tail(const float* in, std::int64_t count, std::uint8_t* codes, float* absmax);

/// `codes` and `absmax` start at the range's first element, which begins a block. The vector forms
/// need a count that is a multiple of kNf4Unit.
void nf4_dequantize_reference(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                              std::int64_t count, float* out);
void nf4_dequantize_reference(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                              std::int64_t count, std::uint16_t* out);
void nf4_dequantize_avx2(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                         std::int64_t count, float* out);
void nf4_dequantize_avx2(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                         std::int64_t count, std::uint16_t* out);
void nf4_dequantize_avx512(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                           std::int64_t count, float* out);
void nf4_dequantize_avx512(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                           std::int64_t count, std::uint16_t* out);

}  // namespace dfmoa::kernels
