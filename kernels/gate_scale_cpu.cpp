// The readable form of the gate scale: the formulas of gate_scale.h, one loop each.
#include "kernels/gate_scale_levels.h"

namespace dfmoa::kernels {
namespace {

template <class Real>
std::int64_t row_of(const GateScaleWork<Real>& work, std::int64_t t) {
  return work.shape.row_of_token == nullptr ? 0 : work.shape.row_of_token[t];
}

template <class Real>
Real gate_w(const GateScaleWork<Real>& work, std::int64_t t, std::int64_t n) {
  if (work.inputs.w == nullptr) return 1;
  return work.inputs.w[t * work.shape.experts + work.shape.expert_of_direction[n]];
}

template <class Real>
Real gate_z(const GateScaleWork<Real>& work, std::int64_t row, std::int64_t n) {
  return work.inputs.z == nullptr ? Real(1) : work.inputs.z[row * work.shape.directions + n];
}

}  // namespace

template <class Real>
void gate_scale_forward_reference(const GateScaleWork<Real>& work, std::int64_t begin,
                                  std::int64_t end) {
  const auto& [h, w, z, scale] = work.inputs;
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int64_t row = row_of(work, t);
    for (std::int64_t n = 0; n < work.shape.directions; ++n) {
      const Real c = scale * gate_w(work, t, n) * gate_z(work, row, n);
      work.out.data[t * work.out.stride + n] = h.data[t * h.stride + n] * c;
    }
  }
}

template <class Real>
void gate_scale_backward_reference(const GateScaleWork<Real>& work, std::int64_t begin,
                                   std::int64_t end) {
  const auto& [h, w, z, scale] = work.inputs;
  const std::int64_t experts = work.shape.experts;
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int64_t row = row_of(work, t);
    for (std::int64_t e = 0; work.dw != nullptr && e < experts; ++e) work.dw[t * experts + e] = 0;
    for (std::int64_t n = 0; n < work.shape.directions; ++n) {
      const Real q_tn = work.q.data[t * work.q.stride + n];
      const Real z_tn = gate_z(work, row, n);
      if (work.dw != nullptr) {
        work.dw[t * experts + work.shape.expert_of_direction[n]] +=
            scale * (q_tn * h.data[t * h.stride + n] * z_tn);
      }
      work.out.data[t * work.out.stride + n] = q_tn * (scale * gate_w(work, t, n) * z_tn);
    }
  }
}

template <class Real>
void gate_scale_backward_z_reference(const GateScaleWork<Real>& work, std::int64_t begin,
                                     std::int64_t end) {
  const StridedRows<const Real> h = work.inputs.h;
  for (std::int64_t row = begin; row < end; ++row) {
    Real* dz = work.dz + row * work.shape.directions;
    for (std::int64_t n = 0; n < work.shape.directions; ++n) {
      Real sum = 0;
      for (std::int64_t t = work.document_begin[row]; t < work.document_begin[row + 1]; ++t) {
        sum += work.q.data[t * work.q.stride + n] * h.data[t * h.stride + n] * gate_w(work, t, n);
      }
      dz[n] = work.inputs.scale * sum;
    }
  }
}

template void gate_scale_forward_reference(const GateScaleWork<float>&, std::int64_t, std::int64_t);
template void gate_scale_forward_reference(const GateScaleWork<double>&, std::int64_t,
                                           std::int64_t);
template void gate_scale_backward_reference(const GateScaleWork<float>&, std::int64_t,
                                            std::int64_t);
template void gate_scale_backward_reference(const GateScaleWork<double>&, std::int64_t,
                                            std::int64_t);
template void gate_scale_backward_z_reference(const GateScaleWork<float>&, std::int64_t,
                                              std::int64_t);
template void gate_scale_backward_z_reference(const GateScaleWork<double>&, std::int64_t,
                                              std::int64_t);

}  // namespace dfmoa::kernels
