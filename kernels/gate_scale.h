// The gates between the two matrix products of a mixture: c = w * z, per token and direction.
//
//   out[t,n] = scale * h[t,n] * w[t, expert(n)] * z[row(t), n]
//
// and its gradients. Functions over a range of tokens or rows: callers split them over threads. The
// result of an element never depends on the split, and nothing is summed atomically.
#pragma once

#include <cstdint>

#include "kernels/cpu_level.h"

namespace dfmoa::kernels {

/// T tokens, N directions (the experts' ranks concatenated), E experts. Experts own contiguous
/// directions: expert_of_direction never falls. An expert may own none.
struct GateScaleShape {
  std::int64_t tokens = 0;
  std::int64_t directions = 0;
  std::int64_t experts = 0;
  const std::int32_t* expert_of_direction = nullptr;  ///< (N), 0 <= value < E
  const std::int32_t* row_of_token = nullptr;         ///< (T), row of z; null: row 0 for all
};

/// A matrix whose rows lie `stride` elements apart: a slice of a wider one.
template <class Real>
struct StridedRows {
  Real* data = nullptr;
  std::int64_t stride = 0;
};

template <class Real>
struct GateScaleInputs {
  StridedRows<const Real> h;  ///< (T, N)
  const Real* w = nullptr;    ///< (T, E), or null: every gate is 1
  const Real* z = nullptr;    ///< (rows, N), or null: every rank gate is 1
  Real scale = 1;
};

/// out (T, N), tokens begin..end of it. `out` may be `h` itself.
///
/// Throws  ShapeError unless 0 <= begin <= end <= T, strides reach N, and every direction names an
///         expert below E, in rising order. So do the two functions below.
template <class Real>
void gate_scale_forward(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                        std::int64_t begin, std::int64_t end, StridedRows<Real> out,
                        CpuLevel level);

/// Gradients of tokens begin..end from q = dy @ b^T (T, N), not yet scaled:
///   dh[t,n] = scale * q * w * z        dw[t,e] = scale * sum over n of e of q * h * z
/// dw (T, E) may be null. `dh` may be `q` itself.
template <class Real>
void gate_scale_backward(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                         StridedRows<const Real> q, std::int64_t begin, std::int64_t end,
                         StridedRows<Real> dh, Real* dw, CpuLevel level);

/// dz[d,n] = scale * sum over tokens of row d of q * h * w, rows begin..end of dz (rows, N).
///
/// document_begin (rows + 1): row d covers tokens document_begin[d]..document_begin[d+1].
/// Throws  ShapeError also unless document_begin rises within 0..T.
template <class Real>
void gate_scale_backward_z(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                           StridedRows<const Real> q, const std::int32_t* document_begin,
                           std::int64_t row_begin, std::int64_t row_end, Real* dz, CpuLevel level);

}  // namespace dfmoa::kernels
