// What a caller of the gate scale gave, checked and in the words of the kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "kernels/gate_scale.h"
#include "src/base/text.h"

namespace dfmoa::ops {

/// Throws ShapeError "gate_scale: NAME is SIZES, expected ..." unless `holds`, or where the tensor
/// lies on another device than `h`.
void check_gate_scale(bool holds, const char* name, const at::Tensor& tensor, const at::Tensor& h,
                      const std::string& expected);

/// The arguments of one call as the kernel wants them; keeps contiguous copies alive.
template <class Real>
class GateScaleArguments {
 public:
  using OptionalTensor = std::optional<at::Tensor>;

  GateScaleArguments(const at::Tensor& h_TN, const OptionalTensor& gate_TG,
                     const OptionalTensor& z_ZN, const at::Tensor& column_N,
                     const OptionalTensor& row_T, double scale)
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
    } else {  // one virtual expert owns every direction
      column_N_ = column_N_.new_zeros(column_N_.sizes());
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

  /// For the gradients: q, shaped like h, and the tokens of every row of z where there is one.
  void check_backward(const at::Tensor& q_TN, const at::Tensor& row_begin) const {
    check(q_TN.sizes() == h_TN_.sizes() && q_TN.stride(1) == 1, "q", q_TN, "the shape of h");
    if (!z_ZN_.defined()) return;
    const auto ends = z_ZN_.size(0) + 1;
    check(row_begin.numel() == ends && row_begin.scalar_type() == at::kInt, "row_begin", row_begin,
          base::text("(", ends, ") int32"));
  }

  kernels::GateScaleShape shape;
  kernels::GateScaleInputs<Real> inputs;

 private:
  void check(bool holds, const char* name, const at::Tensor& tensor,
             const std::string& expected) const {
    check_gate_scale(holds, name, tensor, h_TN_, expected);
  }

  at::Tensor h_TN_, column_N_, gate_TG_, z_ZN_, row_T_;
};

}  // namespace dfmoa::ops
