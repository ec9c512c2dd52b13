// What one form of the mixture gate makes of a problem.
#pragma once

#include <limits>

#include "tests/kernels/forms.h"
#include "tests/kernels/gate_scale_case.h"

namespace dfmoa::kernels_test {

template <class Real>
struct Results {
  std::vector<Real> out, dh, dw, dz;
};

/// Buffers start as NaN: an element that is not written shows.
template <class Real>
Results<Real> unwritten(const GateScaleCase<Real>& p) {
  const Real nan = std::numeric_limits<Real>::quiet_NaN();
  return {std::vector<Real>(p.h.size(), nan), std::vector<Real>(p.h.size(), nan),
          std::vector<Real>(p.w.size(), nan), std::vector<Real>(p.z.size(), nan)};
}

/// The device twins of a problem's arrays.
template <class Real>
struct DeviceCase {
  explicit DeviceCase(const GateScaleCase<Real>& problem)
      : p(problem),
        expert_of_direction(p.expert_of_direction),
        row_of_token(p.row_of_token),
        document_begin(p.document_begin),
        h(p.h),
        q(p.q),
        w(p.w),
        z(p.z) {}

  [[nodiscard]] kernels::GateScaleShape shape() const {
    return {p.tokens, p.directions, p.experts, expert_of_direction.data(),
            p.has_rows ? row_of_token.data() : nullptr};
  }
  [[nodiscard]] kernels::GateScaleInputs<Real> inputs() const {
    return {
        {h.data(), p.stride}, p.has_w ? w.data() : nullptr, p.has_z ? z.data() : nullptr, p.scale};
  }
  [[nodiscard]] kernels::StridedRows<const Real> q_rows() const { return {q.data(), p.stride}; }

  const GateScaleCase<Real>& p;
  DeviceArray<std::int32_t> expert_of_direction, row_of_token, document_begin;
  DeviceArray<Real> h, q, w, z;
};

template <class Real>
void forward_on_device(const GateScaleCase<Real>& p, std::vector<Real>& out) {
  const DeviceCase<Real> there(p);
  const DeviceArray<Real> result(out);
  cuda_form::gate_scale_forward(there.shape(), there.inputs(), {result.data(), p.stride}, {});
  result.read(out.data());
}

template <class Real>
Results<Real> run_on_device(const GateScaleCase<Real>& p) {
  Results<Real> r = unwritten(p);
  forward_on_device(p, r.out);
  const DeviceCase<Real> there(p);
  const DeviceArray<Real> dh(r.dh), dw(r.dw), dz(r.dz);
  cuda_form::gate_scale_backward(there.shape(), there.inputs(), there.q_rows(),
                                 {dh.data(), p.stride}, dw.data(), {});
  const std::int64_t pieces = cuda_form::gate_scale_z_pieces(p.tokens, p.rows);
  const DeviceArray<Real> partial(
      std::vector<Real>(static_cast<std::size_t>(p.rows * pieces * p.directions),
                        std::numeric_limits<Real>::quiet_NaN()));
  cuda_form::gate_scale_backward_z(there.shape(), there.inputs(), there.q_rows(),
                                   there.document_begin.data(), p.rows, partial.data(), dz.data(),
                                   {});
  dh.read(r.dh.data());
  dw.read(r.dw.data());
  dz.read(r.dz.data());
  return r;
}

/// All results by one form; on the CPU in two ranges, so that offsets are exercised.
template <class Real>
Results<Real> run(const Form& form, const GateScaleCase<Real>& p) {
  if (form.on_device) return run_on_device(p);
  Results<Real> r = unwritten(p);
  const kernels::StridedRows<Real> out{r.out.data(), p.stride};
  const kernels::StridedRows<Real> dh{r.dh.data(), p.stride};
  const std::int64_t cut = p.tokens / 3;
  for (const auto& [begin, end] : {std::pair{cut, p.tokens}, std::pair{std::int64_t{0}, cut}}) {
    kernels::gate_scale_forward(p.shape(), p.inputs(), begin, end, out, form.level);
    kernels::gate_scale_backward(p.shape(), p.inputs(), p.q_rows(), begin, end, dh, r.dw.data(),
                                 form.level);
  }
  const std::int64_t half = p.rows / 2;
  for (const auto& [begin, end] : {std::pair{half, p.rows}, std::pair{std::int64_t{0}, half}}) {
    kernels::gate_scale_backward_z(p.shape(), p.inputs(), p.q_rows(), p.document_begin.data(),
                                   begin, end, r.dz.data(), form.level);
  }
  return r;
}

}  // namespace dfmoa::kernels_test
