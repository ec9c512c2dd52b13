#include "kernels/nf4_double.h"

#include <algorithm>
#include <cmath>

namespace dfmoa::kernels {
namespace {

constexpr std::int64_t kGridPoints = 65536;

/// torch.linspace(0.1, 1, steps) in fp32: from both ends towards the middle.
float decade_point(int index, int steps) {
  const float step = (1.0F - 0.1F) / static_cast<float>(steps - 1);
  return index < steps / 2 ? std::fma(step, static_cast<float>(index), 0.1F)
                           : std::fma(-step, static_cast<float>(steps - 1 - index), 1.0F);
}

std::array<float, 256> make_map() {
  std::array<float, 256> map{};
  std::size_t size = 0;
  for (int decade = 0; decade < 7; ++decade) {
    const int steps = (1 << decade) + 1;
    const auto scale = static_cast<float>(std::pow(10.0, decade - 6));
    for (int j = 0; j + 1 < steps; ++j) {
      const float mean = (decade_point(j, steps) + decade_point(j + 1, steps)) / 2.0F;
      map[size++] = scale * mean;
      map[size++] = -scale * mean;
    }
  }
  map[size++] = 0.0F;
  map[size++] = 1.0F;
  std::sort(map.begin(), map.end());
  return map;
}

/// The nearest map value of every point of a grid over [-1, 1]. bitsandbytes rounds to this grid
/// before it looks for the nearest value, and the two roundings do not commute.
std::vector<std::uint8_t> make_codes_of_grid() {
  const std::array<float, 256>& map = nf4_dynamic_map();
  std::vector<std::uint8_t> codes(kGridPoints);
  std::size_t code = 0;
  for (std::int64_t point = 0; point < kGridPoints; ++point) {
    const auto value = static_cast<float>(static_cast<double>(point) / 32767.5 - 1.0);
    while (code < 255 && value > (map[code] + map[code + 1]) / 2.0F) ++code;
    codes[static_cast<std::size_t>(point)] = static_cast<std::uint8_t>(code);
  }
  return codes;
}

std::uint8_t code_of(float value) {
  static const std::vector<std::uint8_t> codes_of_grid = make_codes_of_grid();
  const float point = std::floor((value + 1.0F) * 32767.5F + 0.5F);
  const float inside = std::fmin(std::fmax(point, 0.0F), static_cast<float>(kGridPoints - 1));
  return codes_of_grid[static_cast<std::size_t>(inside)];
}

}  // namespace

const std::array<float, 256>& nf4_dynamic_map() {
  static const std::array<float, 256> map = make_map();
  return map;
}

float nf4_double_offset(const float* absmax, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(absmax[i]);
  return count == 0 ? 0.0F : static_cast<float>(sum / static_cast<double>(count));
}

Nf4DoubleAbsmax nf4_double_quantize(const float* absmax, std::int64_t count, float offset) {
  Nf4DoubleAbsmax result;
  result.offset = offset;
  result.q.resize(static_cast<std::size_t>(count));
  for (std::int64_t begin = 0; begin < count; begin += kNf4DoubleBlock) {
    const std::int64_t end = std::min(begin + kNf4DoubleBlock, count);
    float largest = 0.0F;
    for (std::int64_t i = begin; i < end; ++i) {
      largest = std::fmax(largest, std::fabs(absmax[i] - offset));
    }
    result.absmax2.push_back(largest);
    if (largest == 0.0F) continue;  // every value is the offset: q stays 0
    const float inverse = 1.0F / largest;
    for (std::int64_t i = begin; i < end; ++i) {
      result.q[static_cast<std::size_t>(i)] = code_of((absmax[i] - offset) * inverse);
    }
  }
  return result;
}

Nf4DoubleAbsmax nf4_double_quantize(const float* absmax, std::int64_t count) {
  return nf4_double_quantize(absmax, count, nf4_double_offset(absmax, count));
}

void nf4_double_dequantize(const std::uint8_t* q, const float* absmax2, float offset,
                           std::int64_t count, std::int64_t block,
                           const std::array<float, 256>& map, float* absmax) {
  // The project is compiled with -ffp-contract=off: the product is rounded before the addition.
  for (std::int64_t i = 0; i < count; ++i) {
    const float product = map[q[i]] * absmax2[i / block];
    absmax[i] = product + offset;
  }
}

}  // namespace dfmoa::kernels
