#include <c10/core/impl/VirtualGuardImpl.h>

#include "src/ops/on_device.h"

namespace dfmoa::ops::cuda {

// The stream comes through c10's virtual interface: this file needs no CUDA header and is compiled
// in every build.
LaunchScope::LaunchScope(at::Device device) : guard_(device) {
  const c10::impl::VirtualGuardImpl backend(device.type());
  target_.stream = backend.getStreamNativeHandle(backend.getStream(guard_.current_device()));
}

LaunchScope::~LaunchScope() = default;

}  // namespace dfmoa::ops::cuda
