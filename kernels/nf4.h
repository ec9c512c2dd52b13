// NF4: 4-bit weights with one absmax per block, byte for byte as bitsandbytes writes them.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/cpu_level.h"

namespace dfmoa::kernels {

/// The 16 levels: quantiles of a standard normal, scaled to [-1, 1], with an exact zero.
/// Source: Dettmers et al. 2023, QLoRA, appendix E, arXiv:2305.14314.
inline constexpr std::array<float, 16> kNf4Codebook = {
    -1.0F,           -0x1.647362p-1F, -0x1.0cd66p-1F,  -0x1.94654p-2F,
    -0x1.23449ap-2F, -0x1.7a6a7ep-3F, -0x1.74f0e2p-4F, 0.0F,
    0x1.45f5fep-4F,  0x1.4995c6p-3F,  0x1.f809bap-3F,  0x1.5a0674p-2F,
    0x1.c3497p-2F,   0x1.200f56p-1F,  0x1.722766p-1F,  1.0F,
};

/// The code of a weight that is exactly zero, and of the padding nibble of an odd count.
inline constexpr std::uint8_t kNf4ZeroCode = 7;

/// Powers of two from 32 to 4096.
[[nodiscard]] bool nf4_block_is_legal(std::int64_t block);

/// Quantises the flattened row-major tensor. A full block is multiplied by the reciprocal of its
/// absmax, a short last block is divided by it; a tie between two codes goes to the lower one.
///
/// Shapes  in (count) -> codes ((count+1)/2), absmax (ceil(count/block)).
/// Returns false when a weight is NaN or infinite (the outputs are then undefined), so that the
///         caller can name the tensor. The same bytes at every level.
/// Throws  ShapeError when the block size is not legal or count is negative.
[[nodiscard]] bool nf4_quantize(const float* in, std::int64_t count, std::int64_t block,
                                std::uint8_t* codes, float* absmax, CpuLevel level);

/// Elements begin..end of the flattened tensor, rounded to nearest even where the output is bf16;
/// out[0] is element `begin`. Any split into ranges gives the same bits, so callers cut it over
/// threads. `codes` and `absmax` are those of the whole tensor; absmax must be finite.
///
/// Throws  ShapeError when the block size is not legal, begin is no multiple of it or end < begin.
void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, float* out, CpuLevel level);
/// bf16 bits.
void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, std::uint16_t* out, CpuLevel level);
/// The fp32 values, widened.
void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, double* out, CpuLevel level);

}  // namespace dfmoa::kernels
