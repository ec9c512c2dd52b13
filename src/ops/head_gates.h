// Gates of attention heads and of their dimensions, in one pass over memory.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::ops {

/// y[t,h,c] = x[t,h,c] * z[row(t),h,c] * gate[t,h].
///
/// In fp32 and fp64 on a CPU one pass forward and one backward, elsewhere a composition of torch's
/// ops. The bits do not depend on the number of threads. Kept for backward: the arguments alone.
/// Its gradients have no gradients. Shapes  x_THC (T, H, C), z_ZHC (Z, H, C) or undefined (= 1),
/// row_T (T) int32 the row of z of each
///         token, undefined where Z = 1, gate_TH (T, H) or undefined (= 1) -> (T, H, C); x itself
///         without gates.
/// Throws  ShapeError naming the tensor that does not fit x in shape, type or device; on a CPU also
///         for a token that reads a row outside z.
[[nodiscard]] at::Tensor head_gates(const at::Tensor& x_THC, const at::Tensor& z_ZHC,
                                    const at::Tensor& row_T, const at::Tensor& gate_TH);

/// The same in plain ops under autograd: the oracle.
[[nodiscard]] at::Tensor head_gates_plain(const at::Tensor& x_THC, const at::Tensor& z_ZHC,
                                          const at::Tensor& row_T, const at::Tensor& gate_TH);

}  // namespace dfmoa::ops
