// Experts that are passes of the whole model: their logits are mixed by one gate per document.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "src/model/base_model.h"
#include "src/model/block_adapters.h"

namespace dfmoa::model {

struct AdapterPlan;

/// Where a router of the plan mixes logits, leaves it to the lowest block behind it and sets
/// `copies` of all of them; else does nothing.
/// Throws UsageError where it is not the only router or serves different numbers of experts.
void plan_logit_mixture(const AdapterPlan& plan, std::vector<BlockAdapters>& blocks);

/// sum_e w_te norm(x_et) with the final norm. The vocabulary head behind it is linear, without a
/// bias: the logits of these rows are the experts' logits mixed by w.
/// Shapes  x_TD (E * T, D), copy after copy, gate_TE (T, E) -> (T, D).
[[nodiscard]] at::Tensor mix_normed(const BaseModel& base, const at::Tensor& x_TD,
                                    const at::Tensor& gate_TE);

/// Its gradients to x_TD and gate_TE.
/// Shapes  dy_TD (T, D) -> (E * T, D), (T, E).
[[nodiscard]] std::pair<at::Tensor, at::Tensor> mix_normed_backward(const BaseModel& base,
                                                                    const at::Tensor& dy_TD,
                                                                    const at::Tensor& x_TD,
                                                                    const at::Tensor& gate_TE);

}  // namespace dfmoa::model
