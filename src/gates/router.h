// Routers: hidden states -> gates of the experts, and the statistics of their use.
#pragma once

#include <ATen/core/Tensor.h>

#include "src/gates/config.h"
#include "src/gates/documents.h"
#include "src/gates/statistics.h"

namespace dfmoa::gates {

/// Gates of one forward. Units U are tokens, or documents for scope span.
struct Gates {
  at::Tensor w_TE;          ///< what multiplies the experts, one row per token, in x's type
  at::Tensor w_UE;          ///< the same, one row per unit
  at::Tensor statistics_U;  ///< (layout.size()) fp64, in the graph when grad mode is on
};

/// Shapes  x_TD (T, D), weight_ED (E, D).
/// Throws  ShapeError where they do not fit.
/// Source  docs/math.md; ties of topk go to the lowest index.
[[nodiscard]] Gates route(const RouterConfig& config, const at::Tensor& x_TD,
                          const at::Tensor& weight_ED, const Documents& documents);

/// From logits onward: what `route` does after its product. U rows, E columns.
struct Selection {
  at::Tensor p_UE;  ///< dense probability before selection
  at::Tensor w_UE;
};
[[nodiscard]] Selection select(const RouterConfig& config, const at::Tensor& logit_UE);

/// The vector of docs/math.md for these gates.
[[nodiscard]] at::Tensor statistics_of(const Selection& selection);

}  // namespace dfmoa::gates
