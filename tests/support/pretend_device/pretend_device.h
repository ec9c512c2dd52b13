// A pretend accelerator: torch's spare device type PrivateUse1 with host memory behind it that host
// code cannot reach. ATen ops run their CPU kernels, our own ops launch our own .cu kernels under
// the emulation. What a GPU would make slow or refuse is counted or refused here:
// tensors on two devices, host reads, copies, own ops without a kernel.
//
// Not covered: the order of streams, memory reused across streams, tensor cores, speed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace dfmoa::pretend {

/// The one pretend accelerator.
[[nodiscard]] at::Device device();

/// What has crossed between host and device since the program began.
struct Traffic {
  std::int64_t host_reads = 0;  ///< values that the host waited for: item(), equal(), nonzero()
  std::int64_t to_host = 0;     ///< copies
  std::int64_t to_host_bytes = 0;
  std::int64_t to_device = 0;  ///< copies; they do not make the host wait
  std::int64_t aten_ops = 0;   ///< ops that ran by their CPU kernel

  friend Traffic operator-(const Traffic& after, const Traffic& before);
};
[[nodiscard]] Traffic traffic();

/// Launches of our own kernels on it.
[[nodiscard]] const kernels::LaunchCounts& launches();

}  // namespace dfmoa::pretend
