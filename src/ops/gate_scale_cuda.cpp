// dfmoa::gate_scale and its backward on a device.
#include "src/ops/gate_scale_arguments.h"
#include "src/ops/on_device.h"

namespace dfmoa::ops::DFMOA_CUDA_NAMESPACE {

namespace launchers = kernels::DFMOA_CUDA_NAMESPACE;

at::Tensor gate_scale(const at::Tensor& h_TN, const std::optional<at::Tensor>& gate_TG,
                      const std::optional<at::Tensor>& z_ZN, const at::Tensor& column_N,
                      const std::optional<at::Tensor>& row_T, double scale) {
  auto out = at::empty(h_TN.sizes(), h_TN.options());
  AT_DISPATCH_FLOATING_TYPES(h_TN.scalar_type(), "gate_scale", [&] {
    const GateScaleArguments<scalar_t> call(h_TN, gate_TG, z_ZN, column_N, row_T, scale);
    const LaunchScope scope(h_TN.device());
    launchers::gate_scale_forward<scalar_t>(
        call.shape, call.inputs, {out.data_ptr<scalar_t>(), call.shape.directions}, scope.target());
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> gate_scale_backward(
    const at::Tensor& q_TN, const at::Tensor& h_TN, const std::optional<at::Tensor>& gate_TG,
    const std::optional<at::Tensor>& z_ZN, const at::Tensor& column_N,
    const std::optional<at::Tensor>& row_T, const at::Tensor& row_begin, double scale) {
  const auto options = h_TN.options();
  auto dh = at::empty(h_TN.sizes(), options);
  auto dgate = gate_TG ? at::empty(gate_TG->sizes(), options) : at::empty({0}, options);
  auto dz = z_ZN ? at::empty(z_ZN->sizes(), options) : at::empty({0}, options);
  AT_DISPATCH_FLOATING_TYPES(h_TN.scalar_type(), "gate_scale_backward", [&] {
    const GateScaleArguments<scalar_t> call(h_TN, gate_TG, z_ZN, column_N, row_T, scale);
    call.check_backward(q_TN, row_begin);
    const kernels::StridedRows<const scalar_t> q{q_TN.const_data_ptr<scalar_t>(), q_TN.stride(0)};
    const auto& shape = call.shape;
    const auto rows = z_ZN ? z_ZN->size(0) : 0;
    const auto begin = row_begin.contiguous();
    const auto pieces = launchers::gate_scale_z_pieces(shape.tokens, rows);
    auto partial = at::empty({rows, pieces, shape.directions}, options);
    const LaunchScope scope(h_TN.device());
    launchers::gate_scale_backward<scalar_t>(
        shape, call.inputs, q, {dh.data_ptr<scalar_t>(), shape.directions},
        gate_TG ? dgate.data_ptr<scalar_t>() : nullptr, scope.target());
    if (rows == 0) return;
    launchers::gate_scale_backward_z<scalar_t>(
        shape, call.inputs, q, begin.const_data_ptr<std::int32_t>(), rows,
        partial.data_ptr<scalar_t>(), dz.data_ptr<scalar_t>(), scope.target());
  });
  return {dh, dgate, dz};
}

}  // namespace dfmoa::ops::DFMOA_CUDA_NAMESPACE
