// What the forms of the gate scale share: plain data only, for the reason given in nf4_levels.h.
#pragma once

#include <cstdint>

#include "kernels/gate_scale.h"

namespace dfmoa::kernels {

/// The directions of one expert: a piece of a row over which w is constant.
struct GateScaleSpan {
  std::int64_t expert = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// One call, checked: every form gets this and a range.
template <class Real>
struct GateScaleWork {
  GateScaleShape shape;
  GateScaleInputs<Real> inputs;
  const GateScaleSpan* spans = nullptr;  ///< of the experts that own a direction, in order
  std::int64_t num_spans = 0;
  StridedRows<const Real> q;                     ///< backward only
  StridedRows<Real> out;                         ///< out or dh
  Real* dw = nullptr;                            ///< (T, E), may be null
  Real* dz = nullptr;                            ///< (rows, N)
  const std::int32_t* document_begin = nullptr;  ///< (rows + 1)
};

/// begin..end: tokens, of backward_z rows of z. Instantiated for float and double.
template <class Real>
void gate_scale_forward_reference(const GateScaleWork<Real>& work, std::int64_t begin,
                                  std::int64_t end);
template <class Real>
void gate_scale_backward_reference(const GateScaleWork<Real>& work, std::int64_t begin,
                                   std::int64_t end);
template <class Real>
void gate_scale_backward_z_reference(const GateScaleWork<Real>& work, std::int64_t begin,
                                     std::int64_t end);
template <class Real>
void gate_scale_forward_avx2(const GateScaleWork<Real>& work, std::int64_t begin, std::int64_t end);
template <class Real>
void gate_scale_backward_avx2(const GateScaleWork<Real>& work, std::int64_t begin,
                              std::int64_t end);
template <class Real>
void gate_scale_backward_z_avx2(const GateScaleWork<Real>& work, std::int64_t begin,
                                std::int64_t end);
template <class Real>
void gate_scale_forward_avx512(const GateScaleWork<Real>& work, std::int64_t begin,
                               std::int64_t end);
template <class Real>
void gate_scale_backward_avx512(const GateScaleWork<Real>& work, std::int64_t begin,
                                std::int64_t end);
template <class Real>
void gate_scale_backward_z_avx512(const GateScaleWork<Real>& work, std::int64_t begin,
                                  std::int64_t end);

}  // namespace dfmoa::kernels
