// The one elementwise pass of the mixture: out = scale * h * gate of the owning expert * rank gate.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::ops {

/// Which gate column and which rank-gate row an element (t, n) of h reads.
struct GateLayout {
  at::Tensor column_N;   ///< (N) int32: gate column of each direction
  at::Tensor row_T;      ///< (T) int32: row of z of each token; undefined: row 0 for all
  at::Tensor row_begin;  ///< (rows of z + 1) int32: the tokens of every row of z
  double scale = 1.0;
};

/// Shapes  h_TN (T, N) with unit stride in N, gate_TG (T, G) or undefined (= 1), z_ZN (Z, N) or
///         undefined (= 1) -> (T, N) contiguous.
/// Throws  ShapeError naming the tensor that does not fit or lies on another device.
[[nodiscard]] at::Tensor gate_scale(const at::Tensor& h_TN, const at::Tensor& gate_TG,
                                    const at::Tensor& z_ZN, const GateLayout& layout);

struct GateScaleGradients {
  at::Tensor dh_TN;
  at::Tensor dgate_TG;  ///< undefined without a gate
  at::Tensor dz_ZN;     ///< undefined without rank gates
};

/// q_TN is the gradient of the output, before the factor `scale`.
[[nodiscard]] GateScaleGradients gate_scale_backward(const at::Tensor& q_TN, const at::Tensor& h_TN,
                                                     const at::Tensor& gate_TG,
                                                     const at::Tensor& z_ZN,
                                                     const GateLayout& layout);

/// The forward in plain ops under autograd: the oracle.
[[nodiscard]] at::Tensor gate_scale_plain(const at::Tensor& h_TN, const at::Tensor& gate_TG,
                                          const at::Tensor& z_ZN, const GateLayout& layout);

}  // namespace dfmoa::ops
