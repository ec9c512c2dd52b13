// The forms that ship for CUDA (src/ops/*_cuda.cpp), compiled over the emulated launchers and
// registered for the pretend accelerator.
#include <torch/library.h>

#include "src/ops/on_device.h"
#include "tests/support/pretend_device/device_memory.h"
#include "tests/support/pretend_device/pretend_device.h"
// The forms themselves.
#include "src/ops/gate_scale_cuda.cpp"
#include "src/ops/nf4_cuda.cpp"

namespace dfmoa {
namespace {

kernels::LaunchCounts& counts() {
  static kernels::LaunchCounts all;
  return all;
}

}  // namespace

const kernels::LaunchCounts& pretend::launches() {
  return counts();
}

namespace ops::DFMOA_CUDA_NAMESPACE {

// An emulated kernel runs where it is launched: while the scope lives, device memory is open.
LaunchScope::LaunchScope(at::Device device) : guard_(device), target_{nullptr, &counts()} {
  pretend::DeviceMemory::instance().open();
}

LaunchScope::~LaunchScope() {
  pretend::DeviceMemory::instance().close();
}

TORCH_LIBRARY_IMPL(dfmoa, PrivateUse1, library) {
  library.impl("nf4_dequantize", nf4_dequantize);
  library.impl("gate_scale", gate_scale);
  library.impl("gate_scale_backward", gate_scale_backward);
}

}  // namespace ops::DFMOA_CUDA_NAMESPACE
}  // namespace dfmoa
