#include "src/base/dtype.h"

#include <array>
#include <bit>
#include <cmath>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::base {
namespace {

struct Entry {
  DType dtype;
  std::size_t bytes;
  std::string_view name;
};
constexpr std::array<Entry, 7> kTable{{{DType::f64, 8, "F64"},
                                       {DType::f32, 4, "F32"},
                                       {DType::f16, 2, "F16"},
                                       {DType::bf16, 2, "BF16"},
                                       {DType::i64, 8, "I64"},
                                       {DType::i32, 4, "I32"},
                                       {DType::u8, 1, "U8"}}};

const Entry& entry(DType dtype) {
  return kTable.at(static_cast<std::size_t>(dtype));
}

}  // namespace

std::size_t size_of(DType dtype) {
  return entry(dtype).bytes;
}

std::string name_of(DType dtype) {
  return std::string(entry(dtype).name);
}

DType dtype_from_name(std::string_view name) {
  for (const auto& candidate : kTable) {
    if (candidate.name == name) return candidate.dtype;
  }
  throw ContentError(text("element type '", name, "' is not one of F64 F32 F16 BF16 I64 I32 U8"));
}

std::int64_t count_of(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (auto extent : shape) count *= extent;
  return count;
}

float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

float from_f16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU;
  const std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t widened = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | (widened << 23) | (mantissa << 13));
}

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace dfmoa::base
