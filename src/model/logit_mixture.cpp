#include "src/model/logit_mixture.h"

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/model/family_ops.h"
#include "src/model/transformer.h"

namespace dfmoa::model {
namespace {

/// (E, T, D) final-normed hidden states of every expert's copy.
at::Tensor normed_copies(const BaseModel& base, const at::Tensor& x_TD, const at::Tensor& gate_TE) {
  return norm(base.architecture, x_TD, base.final_norm_D, base.final_norm_bias_D)
      .view({gate_TE.size(1), gate_TE.size(0), x_TD.size(1)});
}

/// (E, T, 1)
at::Tensor by_copy(const at::Tensor& gate_TE) {
  return gate_TE.t().contiguous().unsqueeze(2);
}

}  // namespace

void plan_logit_mixture(const AdapterPlan& plan, std::vector<BlockAdapters>& blocks) {
  std::set<std::string> named;
  std::set<std::int64_t> experts;
  for (const auto& [name, adapter] : plan.adapters) {
    if (adapter.router.empty()) continue;
    named.insert(adapter.router);
    experts.insert(adapter.experts);
  }
  if (!plan.dfa.router.empty()) named.insert(plan.dfa.router);
  const auto mixing = std::find_if(named.begin(), named.end(), [&](const auto& name) {
    return plan.routers.at(name).mixes_logits();
  });
  if (mixing == named.end()) return;
  if (named.size() > 1 || experts.size() > 1) {
    throw base::UsageError(base::text(
        "configuration router.", *mixing, ".mix = logits: there are ", named.size(), " routers (",
        base::join({named.begin(), named.end()}, ", "), ") of adapters with ", experts.size(),
        " different numbers of experts, expected one router and one number in the whole model"));
  }
  bool is_owned = false;
  for (auto& block : blocks) {
    if (block.routers.empty()) continue;
    block.copies = block.routers[0].experts;
    if (is_owned) block.routers.clear();
    is_owned = true;
  }
}

at::Tensor mix_normed(const BaseModel& base, const at::Tensor& x_TD, const at::Tensor& gate_TE) {
  return (normed_copies(base, x_TD, gate_TE) * by_copy(gate_TE)).sum(0);
}

std::pair<at::Tensor, at::Tensor> mix_normed_backward(const BaseModel& base,
                                                      const at::Tensor& dy_TD,
                                                      const at::Tensor& x_TD,
                                                      const at::Tensor& gate_TE) {
  const auto dnormed_TD = (by_copy(gate_TE) * dy_TD).view_as(x_TD);
  const auto dgate_TE = (normed_copies(base, x_TD, gate_TE) * dy_TD).sum(2).t();
  return {norm_backward(base.architecture, dnormed_TD, x_TD, base.final_norm_D), dgate_TE};
}

}  // namespace dfmoa::model
