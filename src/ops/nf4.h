// NF4 weights inside torch: the registered op dfmoa::nf4_dequantize.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::ops {

/// Dequantises a whole matrix on the codes' device.
///
/// Shapes  codes (ceil(F*D/2)) uint8, absmax (ceil(F*D/block)) fp32 -> (F, D) of `dtype`
///         (fp32, bf16, or fp64 holding the exact fp32 values).
/// Throws  ShapeError where codes or absmax do not hold F*D elements, lie on two devices, or for
///         another dtype.
[[nodiscard]] at::Tensor nf4_dequantize(const at::Tensor& codes, const at::Tensor& absmax,
                                        std::int64_t block, at::IntArrayRef shape,
                                        at::ScalarType dtype);

/// What all forms of it ask of their arguments before they write `count` weights as `dtype`.
void check_nf4(const at::Tensor& codes, const at::Tensor& absmax, std::int64_t block,
               std::int64_t count, at::ScalarType dtype);

}  // namespace dfmoa::ops
