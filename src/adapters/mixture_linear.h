// THE equation: a frozen linear plus a mixture of LoRA experts, as one rank-N LoRA with a per-token
// diagonal in the middle. Several linears that read the same input share one down-projection.
//
//   h_TN   = x_TD @ a_ND^T
//   y_TF   = base(x) + (scale * h_TN * gate_T,e(n) * z_d(t),n) @ b_NF        for every site
//
// Two GEMMs and one elementwise pass per site, whatever the number of experts is. Saved for
// backward: x, h, the gates; everything else is computed again.
// Source: docs/math.md, first row.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "src/adapters/base_linear.h"

namespace dfmoa::adapters {

/// One site (q, k, v, ...) of a group that shares its input.
struct MixtureSite {
  std::shared_ptr<const BaseLinear> base;  ///< null: the experts' share alone is wanted
  at::Tensor b_NF;         ///< (N of this site, F), a leaf; undefined: the site is not adapted
  std::int64_t first = 0;  ///< first direction of the site inside the group
  double scale = 1.0;
  std::int64_t a_row = -1;   ///< first row of the site in the group's A; -1: as `first`
  std::int64_t sharers = 1;  ///< experts that share the site's rows of A, each with a b of its own
  std::int64_t a_first() const { return a_row < 0 ? first : a_row; }
  std::int64_t a_rows() const { return directions() / sharers; }
  std::int64_t directions() const { return b_NF.defined() ? b_NF.size(0) : 0; }
};

/// What the sites of a group share.
struct MixtureGroup {
  at::Tensor a_ND;       ///< (rows of all sites, D), a leaf; undefined: no site is adapted
  at::Tensor gate_TG;    ///< (T, G) or undefined (every gate 1)
  at::Tensor z_ZN;       ///< (documents or 1, N) or undefined (every rank gate 1)
  at::Tensor column_N;   ///< (N) int32: gate column of each direction
  at::Tensor row_T;      ///< (T) int32: row of z of each token, or undefined (one row)
  at::Tensor row_begin;  ///< (Z + 1) int32: the tokens of every row of z
};

/// Shapes  x_TD (T, D) -> one (T, F) per site.
/// Throws  ShapeError where a tensor does not fit its site.
[[nodiscard]] std::vector<at::Tensor> mixture_linear(const at::Tensor& x_TD,
                                                     const MixtureGroup& group,
                                                     const std::vector<MixtureSite>& sites);

/// The loop over experts in plain ops: the oracle, and the first thing to read.
[[nodiscard]] std::vector<at::Tensor> mixture_linear_loop(const at::Tensor& x_TD,
                                                          const MixtureGroup& group,
                                                          const std::vector<MixtureSite>& sites);

}  // namespace dfmoa::adapters
