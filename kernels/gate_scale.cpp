#include "kernels/gate_scale.h"

#include <vector>

#include "kernels/gate_scale_levels.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::kernels {
namespace {

[[noreturn]] void fail(const std::string& sentence) {
  throw base::ShapeError("gate_scale: " + sentence);
}

void check_range(std::int64_t begin, std::int64_t end, std::int64_t extent) {
  if (begin < 0 || end < begin || end > extent) {
    fail(base::text("the range is [", begin, ", ", end, ") of ", extent));
  }
}

template <class Real>
void check_stride(const char* name, StridedRows<Real> rows, const GateScaleShape& shape) {
  if (rows.stride < shape.directions) {
    fail(base::text("the rows of ", name, " lie ", rows.stride,
                    " elements apart, expected at least ", shape.directions, " directions"));
  }
}

/// Runs of equal experts. Their order is part of the contract, so it is checked here, once a call.
std::vector<GateScaleSpan> spans_of(const GateScaleShape& shape) {
  std::vector<GateScaleSpan> spans;
  for (std::int64_t n = 0; n < shape.directions; ++n) {
    const std::int64_t expert = shape.expert_of_direction[n];
    const std::int64_t least = spans.empty() ? 0 : spans.back().expert;
    if (expert < least || expert >= shape.experts) {
      fail(base::text("direction ", n, " names expert ", expert, ", expected ", least, " to ",
                      shape.experts - 1));
    }
    if (spans.empty() || spans.back().expert != expert) spans.push_back({expert, n, n});
    spans.back().end = n + 1;
  }
  return spans;
}

template <class Real>
GateScaleWork<Real> work_of(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                            const std::vector<GateScaleSpan>& spans) {
  check_stride("h", inputs.h, shape);
  GateScaleWork<Real> work;
  work.shape = shape;
  work.inputs = inputs;
  work.spans = spans.data();
  work.num_spans = static_cast<std::int64_t>(spans.size());
  return work;
}

}  // namespace

template <class Real>
void gate_scale_forward(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                        std::int64_t begin, std::int64_t end, StridedRows<Real> out,
                        CpuLevel level) {
  check_range(begin, end, shape.tokens);
  check_stride("out", out, shape);
  const std::vector<GateScaleSpan> spans = spans_of(shape);
  GateScaleWork<Real> work = work_of(shape, inputs, spans);
  work.out = out;
  switch (level) {
    case CpuLevel::reference:
      return gate_scale_forward_reference(work, begin, end);
    case CpuLevel::avx2:
      return gate_scale_forward_avx2(work, begin, end);
    case CpuLevel::avx512:
      return gate_scale_forward_avx512(work, begin, end);
  }
}

template <class Real>
void gate_scale_backward(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                         StridedRows<const Real> q, std::int64_t begin, std::int64_t end,
                         StridedRows<Real> dh, Real* dw, CpuLevel level) {
  check_range(begin, end, shape.tokens);
  check_stride("q", q, shape);
  check_stride("dh", dh, shape);
  const std::vector<GateScaleSpan> spans = spans_of(shape);
  GateScaleWork<Real> work = work_of(shape, inputs, spans);
  work.q = q;
  work.out = dh;
  work.dw = dw;
  switch (level) {
    case CpuLevel::reference:
      return gate_scale_backward_reference(work, begin, end);
    case CpuLevel::avx2:
      return gate_scale_backward_avx2(work, begin, end);
    case CpuLevel::avx512:
      return gate_scale_backward_avx512(work, begin, end);
  }
}

template <class Real>
void gate_scale_backward_z(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                           StridedRows<const Real> q, const std::int32_t* document_begin,
                           std::int64_t row_begin, std::int64_t row_end, Real* dz, CpuLevel level) {
  check_range(row_begin, row_end, row_end);
  check_stride("q", q, shape);
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    check_range(document_begin[row], document_begin[row + 1], shape.tokens);
  }
  const std::vector<GateScaleSpan> spans = spans_of(shape);
  GateScaleWork<Real> work = work_of(shape, inputs, spans);
  work.q = q;
  work.document_begin = document_begin;
  work.dz = dz;
  switch (level) {
    case CpuLevel::reference:
      return gate_scale_backward_z_reference(work, row_begin, row_end);
    case CpuLevel::avx2:
      return gate_scale_backward_z_avx2(work, row_begin, row_end);
    case CpuLevel::avx512:
      return gate_scale_backward_z_avx512(work, row_begin, row_end);
  }
}

#define DFMOA_INSTANTIATE(Real)                                                                    \
  template void gate_scale_forward<Real>(const GateScaleShape&, const GateScaleInputs<Real>&,      \
                                         std::int64_t, std::int64_t, StridedRows<Real>, CpuLevel); \
  template void gate_scale_backward<Real>(const GateScaleShape&, const GateScaleInputs<Real>&,     \
                                          StridedRows<const Real>, std::int64_t, std::int64_t,     \
                                          StridedRows<Real>, Real*, CpuLevel);                     \
  template void gate_scale_backward_z<Real>(const GateScaleShape&, const GateScaleInputs<Real>&,   \
                                            StridedRows<const Real>, const std::int32_t*,          \
                                            std::int64_t, std::int64_t, Real*, CpuLevel);
DFMOA_INSTANTIATE(float)
DFMOA_INSTANTIATE(double)
#undef DFMOA_INSTANTIATE

}  // namespace dfmoa::kernels
