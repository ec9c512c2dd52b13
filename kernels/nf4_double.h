// Double quantisation: the absmax values of NF4, themselves stored in 8 bits (4.13 instead of 4.5
// bits per weight), byte for byte as bitsandbytes writes them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace dfmoa::kernels {

/// absmax values per second-level scale.
inline constexpr std::int64_t kNf4DoubleBlock = 256;

/// The doubly quantised form of `count` absmax values.
struct Nf4DoubleAbsmax {
  std::vector<std::uint8_t> q;  ///< (count)
  std::vector<float> absmax2;   ///< (ceil(count / 256))
  float offset = 0;
};

/// The signed dynamic 8-bit map, rising from -0.993 to 1: seven decades, each with twice as many
/// values as the one below. Source: Dettmers et al. 2022, arXiv:2110.02861, section 1.3.
[[nodiscard]] const std::array<float, 256>& nf4_dynamic_map();

/// The mean that is subtracted before quantising, summed in double. (bitsandbytes sums in fp32 in
/// an order of its own: its last bit may differ.) 0 for no values.
[[nodiscard]] float nf4_double_offset(const float* absmax, std::int64_t count);

/// q and absmax2 of absmax - offset.
[[nodiscard]] Nf4DoubleAbsmax nf4_double_quantize(const float* absmax, std::int64_t count,
                                                  float offset);
/// The same around nf4_double_offset.
[[nodiscard]] Nf4DoubleAbsmax nf4_double_quantize(const float* absmax, std::int64_t count);

/// absmax[i] = map[q[i]] * absmax2[i / block] + offset: multiplied, rounded, then added. `map` is
/// the file's nested_quant_map or nf4_dynamic_map().
void nf4_double_dequantize(const std::uint8_t* q, const float* absmax2, float offset,
                           std::int64_t count, std::int64_t block,
                           const std::array<float, 256>& map, float* absmax);

}  // namespace dfmoa::kernels
