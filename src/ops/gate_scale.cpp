#include "src/ops/gate_scale.h"

#include <torch/library.h>

#include "kernels/cpu_level.h"
#include "kernels/gate_scale.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

OptionalTensor optional(const at::Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

void check(bool holds, const char* name, const at::Tensor& tensor, const std::string& expected) {
  if (holds) return;
  throw base::ShapeError(
      base::text("gate_scale: ", name, " is ", tensor.sizes(), ", expected ", expected));
}

/// The arguments of one call as the kernel wants them; keeps contiguous copies alive.
template <class Real>
class Call {
 public:
  Call(const at::Tensor& h_TN, const OptionalTensor& gate_TG, const OptionalTensor& z_ZN,
       const at::Tensor& column_N, const OptionalTensor& row_T, double scale)
      : h_TN_(h_TN), column_N_(column_N.contiguous()) {
    check(h_TN.dim() == 2 && h_TN.stride(1) == 1, "h", h_TN, "(T, N) with unit stride in N");
    const auto tokens = h_TN.size(0);
    const auto directions = h_TN.size(1);
    check(column_N.numel() == directions && column_N.scalar_type() == at::kInt, "column", column_N,
          base::text("(", directions, ") int32"));
    shape = {tokens, directions, 1, column_N_.const_data_ptr<std::int32_t>(), nullptr};
    inputs.h = {h_TN_.const_data_ptr<Real>(), h_TN.stride(0)};
    inputs.scale = static_cast<Real>(scale);
    if (gate_TG) {
      check(gate_TG->dim() == 2 && gate_TG->size(0) == tokens, "gate", *gate_TG,
            base::text("(", tokens, ", G)"));
      gate_TG_ = gate_TG->contiguous();
      inputs.w = gate_TG_.const_data_ptr<Real>();
      shape.experts = gate_TG->size(1);
    } else {
      column_N_ = at::zeros_like(column_N_);  // one virtual expert owns every direction
      shape.expert_of_direction = column_N_.const_data_ptr<std::int32_t>();
    }
    if (z_ZN) {
      check(z_ZN->dim() == 2 && z_ZN->size(1) == directions, "z", *z_ZN,
            base::text("(Z, ", directions, ")"));
      z_ZN_ = z_ZN->contiguous();
      inputs.z = z_ZN_.const_data_ptr<Real>();
    }
    if (z_ZN && row_T) {
      check(row_T->numel() == tokens && row_T->scalar_type() == at::kInt, "row", *row_T,
            base::text("(", tokens, ") int32"));
      row_T_ = row_T->contiguous();
      shape.row_of_token = row_T_.const_data_ptr<std::int32_t>();
    }
  }

  kernels::GateScaleShape shape;
  kernels::GateScaleInputs<Real> inputs;

 private:
  at::Tensor h_TN_, column_N_, gate_TG_, z_ZN_, row_T_;
};

std::int64_t grain(std::int64_t directions) {
  return std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(directions, 1));
}

at::Tensor forward_cpu(const at::Tensor& h_TN, const OptionalTensor& gate_TG,
                       const OptionalTensor& z_ZN, const at::Tensor& column_N,
                       const OptionalTensor& row_T, double scale) {
  auto out = at::empty(h_TN.sizes(), h_TN.options());
  AT_DISPATCH_FLOATING_TYPES(h_TN.scalar_type(), "gate_scale", [&] {
    const Call<scalar_t> call(h_TN, gate_TG, z_ZN, column_N, row_T, scale);
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
  check(q_TN.sizes() == h_TN.sizes() && q_TN.stride(1) == 1, "q", q_TN, "the shape of h");
  auto dh = at::empty(h_TN.sizes(), h_TN.options());
  auto dgate =
      gate_TG ? at::empty(gate_TG->sizes(), h_TN.options()) : at::empty({0}, h_TN.options());
  auto dz = z_ZN ? at::empty(z_ZN->sizes(), h_TN.options()) : at::empty({0}, h_TN.options());
  AT_DISPATCH_FLOATING_TYPES(h_TN.scalar_type(), "gate_scale_backward", [&] {
    const Call<scalar_t> call(h_TN, gate_TG, z_ZN, column_N, row_T, scale);
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
    check(row_begin.numel() == z_ZN->size(0) + 1 && row_begin.scalar_type() == at::kInt,
          "row_begin", row_begin, base::text("(", z_ZN->size(0) + 1, ") int32"));
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
