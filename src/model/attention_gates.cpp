#include "src/model/attention_gates.h"

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/head_gates.h"

namespace dfmoa::model {

void DfaConfig::fields(base::FieldList& list) {
  list.add("router", router,
           "name of a [router.NAME] whose gates multiply the attention heads, kind softmax (their "
           "mean stays 1) or sigmoid (twice the membership); empty: none");
  list.add("rank_gate", rank_gate, "name of a [rank.NAME] of the heads' dimensions; empty: none");
  list.add("dimensions", dimensions,
           "gated dimensions: qk (queries and keys together), v (values)");
  list.add("layers", layers, "all, or ranges such as 0-15,20");
  list.add("attention", attention,
           "pretrained: the model's own; literal: new trained projections with q, k, v masks")
      .one_of({"pretrained", "literal"});
}

void DimensionMask::index(at::Device device) {
  index_N = torch::tensor(dimension_id_N, torch::kLong).to(device);
}

at::Tensor DimensionMask::spread(const at::Tensor& z_ZN, at::TensorOptions options) const {
  if (left() == total()) return z_ZN;
  if (!index_N.defined() || index_N.size(0) != left()) {
    throw base::ShapeError(base::text("mask ", name, ": indexed for ",
                                      index_N.defined() ? index_N.size(0) : 0, " of the ", left(),
                                      " dimensions that are left, expected all of them"));
  }
  const auto values = z_ZN.defined() ? z_ZN : at::ones({1, left()}, options);
  return at::zeros({values.size(0), total()}, values.options()).index_copy(1, index_N, values);
}

at::Tensor gate_dimensions(const at::Tensor& x_THC, const DimensionMask& mask,
                           const at::Tensor& z_ZN, const at::Tensor& row_T,
                           const at::Tensor& gate_TH) {
  if (!z_ZN.defined()) return ops::head_gates(x_THC, {}, {}, gate_TH);
  auto z_ZHC = z_ZN.view({z_ZN.size(0), mask.rows, mask.channels});
  if (mask.channels != x_THC.size(2)) z_ZHC = at::cat({z_ZHC, z_ZHC}, 2);
  if (mask.rows != x_THC.size(1)) {
    z_ZHC = z_ZHC.repeat_interleave(x_THC.size(1) / mask.rows, 1);
  }
  return ops::head_gates(x_THC, z_ZHC, row_T, gate_TH);
}

}  // namespace dfmoa::model
