// The launchers of a build without CUDA: the same symbols, each an error that says so.
#include "kernels/cuda/launch.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::kernels::DFMOA_CUDA_NAMESPACE {
namespace {

[[noreturn]] void refuse(const char* kernel) {
  throw base::UsageError(base::text(kernel,
                                    " on a GPU: this program was built without CUDA, "
                                    "configure it with -DDFMOA_CUDA=ON or use device = cpu"));
}

}  // namespace

bool is_built() {
  return false;
}

void nf4_dequantize(const std::uint8_t*, const float*, std::int64_t, std::int64_t, std::int64_t,
                    float*, const LaunchTarget&) {
  refuse("nf4_dequantize");
}

void nf4_dequantize(const std::uint8_t*, const float*, std::int64_t, std::int64_t, std::int64_t,
                    std::uint16_t*, const LaunchTarget&) {
  refuse("nf4_dequantize");
}

void nf4_dequantize(const std::uint8_t*, const float*, std::int64_t, std::int64_t, std::int64_t,
                    double*, const LaunchTarget&) {
  refuse("nf4_dequantize");
}

template <class Real>
void gate_scale_forward(const GateScaleShape&, const GateScaleInputs<Real>&, StridedRows<Real>,
                        const LaunchTarget&) {
  refuse("gate_scale_forward");
}

template <class Real>
void gate_scale_backward(const GateScaleShape&, const GateScaleInputs<Real>&,
                         StridedRows<const Real>, StridedRows<Real>, Real*, const LaunchTarget&) {
  refuse("gate_scale_backward");
}

std::int64_t gate_scale_z_pieces(std::int64_t, std::int64_t) {
  refuse("gate_scale_backward_z");
}

template <class Real>
void gate_scale_backward_z(const GateScaleShape&, const GateScaleInputs<Real>&,
                           StridedRows<const Real>, const std::int32_t*, std::int64_t, Real*, Real*,
                           const LaunchTarget&) {
  refuse("gate_scale_backward_z");
}

#define DFMOA_INSTANTIATE(Real)                                                                   \
  template void gate_scale_forward(const GateScaleShape&, const GateScaleInputs<Real>&,           \
                                   StridedRows<Real>, const LaunchTarget&);                       \
  template void gate_scale_backward(const GateScaleShape&, const GateScaleInputs<Real>&,          \
                                    StridedRows<const Real>, StridedRows<Real>, Real*,            \
                                    const LaunchTarget&);                                         \
  template void gate_scale_backward_z(const GateScaleShape&, const GateScaleInputs<Real>&,        \
                                      StridedRows<const Real>, const std::int32_t*, std::int64_t, \
                                      Real*, Real*, const LaunchTarget&);
DFMOA_INSTANTIATE(float)
DFMOA_INSTANTIATE(double)
#undef DFMOA_INSTANTIATE

}  // namespace dfmoa::kernels::DFMOA_CUDA_NAMESPACE
