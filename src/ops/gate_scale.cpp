#include "src/ops/gate_scale.h"

#include <torch/library.h>

#include "kernels/cpu_level.h"
#include "src/base/error.h"
#include "src/ops/gate_scale_arguments.h"
#include "src/ops/on_device.h"

namespace dfmoa::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

OptionalTensor optional(const at::Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

std::int64_t grain(std::int64_t directions) {
  return std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(directions, 1));
}

at::Tensor forward_cpu(const at::Tensor& h_TN, const OptionalTensor& gate_TG,
                       const OptionalTensor& z_ZN, const at::Tensor& column_N,
                       const OptionalTensor& row_T, double scale) {
  auto out = at::empty(h_TN.sizes(), h_TN.options());
  AT_DISPATCH_FLOATING_TYPES(h_TN.scalar_type(), "gate_scale", [&] {
    const GateScaleArguments<scalar_t> call(h_TN, gate_TG, z_ZN, column_N, row_T, scale);
    const auto level = kernels::cpu_level();
    auto* data = out.data_ptr<scalar_t>();
    at::parallel_for(0, call.shape.tokens, grain(call.shape.directions),
                     [&](std::int64_t begin, std::int64_t end) {
                       kernels::gate_scale_forward<scalar_t>(call.shape, call.inputs, begin, end,
                                                             {data, call.shape.directions}, level);
                     });
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward_cpu(
    const at::Tensor& q_TN, const at::Tensor& h_TN, const OptionalTensor& gate_TG,
    const OptionalTensor& z_ZN, const at::Tensor& column_N, const OptionalTensor& row_T,
    const at::Tensor& row_begin, double scale) {
  auto dh = at::empty(h_TN.sizes(), h_TN.options());
  auto dgate =
      gate_TG ? at::empty(gate_TG->sizes(), h_TN.options()) : at::empty({0}, h_TN.options());
  auto dz = z_ZN ? at::empty(z_ZN->sizes(), h_TN.options()) : at::empty({0}, h_TN.options());
  AT_DISPATCH_FLOATING_TYPES(h_TN.scalar_type(), "gate_scale_backward", [&] {
    const GateScaleArguments<scalar_t> call(h_TN, gate_TG, z_ZN, column_N, row_T, scale);
    call.check_backward(q_TN, row_begin);
    const auto level = kernels::cpu_level();
    const kernels::StridedRows<const scalar_t> q{q_TN.const_data_ptr<scalar_t>(), q_TN.stride(0)};
    auto* dh_data = dh.data_ptr<scalar_t>();
    auto* dgate_data = gate_TG ? dgate.data_ptr<scalar_t>() : nullptr;
    at::parallel_for(0, call.shape.tokens, grain(call.shape.directions),
                     [&](std::int64_t begin, std::int64_t end) {
                       kernels::gate_scale_backward<scalar_t>(call.shape, call.inputs, q, begin,
                                                              end, {dh_data, call.shape.directions},
                                                              dgate_data, level);
                     });
    if (!z_ZN) return;
    const auto begin_of_row = row_begin.contiguous();
    auto* dz_data = dz.data_ptr<scalar_t>();
    at::parallel_for(0, z_ZN->size(0), 1, [&](std::int64_t first, std::int64_t last) {
      kernels::gate_scale_backward_z<scalar_t>(call.shape, call.inputs, q,
                                               begin_of_row.const_data_ptr<std::int32_t>(), first,
                                               last, dz_data, level);
    });
  });
  return {dh, dgate, dz};
}

}  // namespace

void check_gate_scale(bool holds, const char* name, const at::Tensor& tensor, const at::Tensor& h,
                      const std::string& expected) {
  if (tensor.device() != h.device()) {
    throw base::ShapeError(base::text("gate_scale: ", name, " lies on ", tensor.device(), ", h on ",
                                      h.device(), ", expected one device"));
  }
  if (holds) return;
  throw base::ShapeError(
      base::text("gate_scale: ", name, " is ", tensor.sizes(), ", expected ", expected));
}

TORCH_LIBRARY_FRAGMENT(dfmoa, library) {
  library.def(
      "gate_scale(Tensor h, Tensor? gate, Tensor? z, Tensor column, Tensor? row, float scale)"
      " -> Tensor");
  library.def(
      "gate_scale_backward(Tensor q, Tensor h, Tensor? gate, Tensor? z, Tensor column, Tensor? row,"
      " Tensor row_begin, float scale) -> (Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(dfmoa, CPU, library) {
  library.impl("gate_scale", forward_cpu);
  library.impl("gate_scale_backward", backward_cpu);
}
TORCH_LIBRARY_IMPL(dfmoa, CUDA, library) {
  library.impl("gate_scale", cuda::gate_scale);
  library.impl("gate_scale_backward", cuda::gate_scale_backward);
}

at::Tensor gate_scale(const at::Tensor& h_TN, const at::Tensor& gate_TG, const at::Tensor& z_ZN,
                      const GateLayout& layout) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("dfmoa::gate_scale", "")
                             .typed<decltype(forward_cpu)>();
  return op.call(h_TN, optional(gate_TG), optional(z_ZN), layout.column_N, optional(layout.row_T),
                 layout.scale);
}

GateScaleGradients gate_scale_backward(const at::Tensor& q_TN, const at::Tensor& h_TN,
                                       const at::Tensor& gate_TG, const at::Tensor& z_ZN,
                                       const GateLayout& layout) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("dfmoa::gate_scale_backward", "")
                             .typed<decltype(backward_cpu)>();
  auto [dh, dgate, dz] = op.call(q_TN, h_TN, optional(gate_TG), optional(z_ZN), layout.column_N,
                                 optional(layout.row_T), layout.row_begin, layout.scale);
  return {dh, gate_TG.defined() ? dgate : at::Tensor(), z_ZN.defined() ? dz : at::Tensor()};
}

at::Tensor gate_scale_plain(const at::Tensor& h_TN, const at::Tensor& gate_TG,
                            const at::Tensor& z_ZN, const GateLayout& layout) {
  auto out = h_TN * layout.scale;
  if (gate_TG.defined()) out = out * gate_TG.index_select(1, layout.column_N);
  if (!z_ZN.defined()) return out;
  return out * (layout.row_T.defined() ? z_ZN.index_select(0, layout.row_T) : z_ZN);
}

}  // namespace dfmoa::ops
