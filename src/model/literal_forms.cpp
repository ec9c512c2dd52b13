#include "src/model/literal_forms.h"

#include "src/base/text.h"

namespace dfmoa::model {
namespace {

void add_router(const std::string& name, const gates::RouterConfig& router,
                std::vector<std::string>& notes) {
  const auto say = [&](const auto&... words) {
    notes.push_back(base::text("router.", name, ": ", words...));
  };
  if (router.scope == "first_token") say("the gate of a document is read from its first token");
  if (router.kind == "topk_literal") {
    say("top-k weights are not renormalised",
        router.mixes_logits() ? ""
                              : "; experts are mixed inside every linear, not by their logits");
  }
  if (router.mixes_logits()) {
    say("every expert is a whole pass of the model; their logits are mixed, and scaled by what the "
        "gates sum to");
  }
  if (router.kind == "sigmoid_threshold_literal") say("the threshold has no gradient");
  if (router.entropy == "literal") {
    say("the entropy weight is trained on the loss itself, which has no minimum in it");
  }
  if (router.balance == "threshold_literal") {
    say("the balance term counts what exceeds the threshold; repaired: over the whole step, not "
        "one "
        "process' batch");
  }
}

}  // namespace

std::vector<std::string> literal_forms(const AdapterPlan& plan) {
  std::vector<std::string> notes;
  for (const auto& [name, adapter] : plan.adapters) {
    if (adapter.scale != "literal") continue;
    notes.push_back(
        base::text("adapter.", name, ": the scale is alpha / rank, whatever its gates"));
  }
  for (const auto& [name, router] : plan.routers) add_router(name, router, notes);
  for (const auto& [name, rank] : plan.rank_gates) {
    if (rank.kind != "literal") continue;
    notes.push_back(base::text("rank.", name,
                               ": gates are sigmoid(m) with a penalty on |m|, which pulls them to "
                               "one half and removes nothing"));
  }
  if (plan.dfa.is_literal()) {
    notes.emplace_back(
        "dfa: attention is new and trained from nothing; repaired: heads are concatenated, not "
        "summed, the mask is causal, labels are shifted, positions are the model's");
  }
  return notes;
}

}  // namespace dfmoa::model
