// Rotary position embedding: pairs (c, c + C/2) turned by position * inverse frequency.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::ops {

/// cos and sin of position * inverse_frequency. Always computed in fp32, also for fp64 models: the
/// published models were trained with an fp32 table, and every implementation repeats its rounding.
///
/// Shapes  position_T (T) int64, inverse_frequency (C/2) fp32 -> two (T, 1, C) of `dtype`.
struct RotaryTable {
  at::Tensor cos_T1C;
  at::Tensor sin_T1C;
};
[[nodiscard]] RotaryTable rotary_table(const at::Tensor& position_T,
                                       const at::Tensor& inverse_frequency, at::ScalarType dtype);

/// Shapes  x_THC (T, H, C) -> same.
/// Source  Su et al. 2021, arXiv:2104.09864, in the half-split order of the LLaMA family.
[[nodiscard]] at::Tensor rotate(const at::Tensor& x_THC, const RotaryTable& table);

}  // namespace dfmoa::ops
