// The own ops on a device that runs the CUDA kernels. Compiled twice, as the kernels are: for CUDA,
// and in another namespace for the tests' pretend accelerator.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include <optional>
#include <tuple>

#include "kernels/cuda/launch.h"

namespace dfmoa::ops::DFMOA_CUDA_NAMESPACE {

/// While alive, kernels may be launched on the device: it is the current one, `target` its stream.
class LaunchScope {
 public:
  explicit LaunchScope(at::Device device);
  ~LaunchScope();
  LaunchScope(const LaunchScope&) = delete;
  LaunchScope& operator=(const LaunchScope&) = delete;
  [[nodiscard]] const kernels::LaunchTarget& target() const { return target_; }

 private:
  c10::DeviceGuard guard_;
  kernels::LaunchTarget target_;
};

/// The registered forms of ops::nf4_dequantize, ops::gate_scale and its backward. They throw as
/// those do, and what the launchers throw.
[[nodiscard]] at::Tensor nf4_dequantize(const at::Tensor& codes, const at::Tensor& absmax,
                                        std::int64_t block, at::IntArrayRef shape,
                                        at::ScalarType dtype);

[[nodiscard]] at::Tensor gate_scale(const at::Tensor& h_TN,
                                    const std::optional<at::Tensor>& gate_TG,
                                    const std::optional<at::Tensor>& z_ZN,
                                    const at::Tensor& column_N,
                                    const std::optional<at::Tensor>& row_T, double scale);

[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor> gate_scale_backward(
    const at::Tensor& q_TN, const at::Tensor& h_TN, const std::optional<at::Tensor>& gate_TG,
    const std::optional<at::Tensor>& z_ZN, const at::Tensor& column_N,
    const std::optional<at::Tensor>& row_T, const at::Tensor& row_begin, double scale);

}  // namespace dfmoa::ops::DFMOA_CUDA_NAMESPACE
