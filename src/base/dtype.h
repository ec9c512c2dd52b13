// Element types that files, kernels, communicators and checkpoints agree on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dfmoa::base {

enum class DType { f64, f32, f16, bf16, i64, i32, u8 };

/// Bytes of one element.
[[nodiscard]] std::size_t size_of(DType dtype);

/// safetensors' spelling: F64, F32, F16, BF16, I64, I32, U8.
[[nodiscard]] std::string name_of(DType dtype);

/// Inverse of name_of. Throws ContentError for another spelling.
[[nodiscard]] DType dtype_from_name(std::string_view name);

/// Product of the extents; 1 for a scalar shape ().
[[nodiscard]] std::int64_t count_of(const std::vector<std::int64_t>& shape);

/// bf16 and f16 bits widened to fp32, and fp32 rounded to nearest even.
[[nodiscard]] float from_bf16(std::uint16_t bits);
[[nodiscard]] float from_f16(std::uint16_t bits);
[[nodiscard]] std::uint16_t to_bf16(float value);

}  // namespace dfmoa::base
