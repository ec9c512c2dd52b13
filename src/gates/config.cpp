#include "src/gates/config.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::gates {

void RouterConfig::fields(base::FieldList& list) {
  list.add("kind", kind, "softmax: every expert; topk: the top_k largest, renormalised")
      .one_of({"softmax", "topk"});
  list.add("top_k", top_k, "experts per unit for kind topk").range(1, 4096);
  list.add("temperature", temperature, "logits are divided by it").range(1e-6, 1e6);
  list.add("scope", scope, "token: a gate per token; span: one per document, from its instruction")
      .one_of({"token", "span"});
  list.add("input", input, "per_block: the block's first norm; per_site: each linear's own input")
      .one_of({"per_block", "per_site"});
  list.add("init", init, "router weights: auto (zero for dense gates, else normal), zero, normal")
      .one_of({"auto", "zero", "normal"});
  list.add("init_scale", init_scale, "standard deviation of init normal").range(0, 10);
  list.add("learning_rate", learning_rate, "peak rate of the router; -1: the adapters'")
      .range(-1, 10);
  list.add("entropy", entropy, "load entropy: dual constraint, fixed weight, literal, none")
      .one_of({"dual", "fixed", "literal", "none"});
  list.add("entropy_weight", entropy_weight,
           "weight at the start (dual, literal) or always (fixed)")
      .range(1e-4, 10);
  list.add("entropy_target", entropy_target, "dual: share of log(experts) to be reached")
      .range(0, 1);
  list.add("balance", balance, "switch: E * sum_e f_e P_e; none").one_of({"none", "switch"});
  list.add("balance_weight", balance_weight, "weight of the balance term").range(0, 100);
}

bool RouterConfig::starts_random() const {
  return init == "normal" || (init == "auto" && kind == "topk");
}

double RouterConfig::mean_gate(std::int64_t experts) const {
  const auto share = 1.0 / static_cast<double>(experts);
  return kind == "topk" && top_k == 1 ? share * share : share;
}

void RouterConfig::validate(const std::string& name, std::int64_t experts) const {
  if (kind == "topk" && top_k > experts) {
    throw base::UsageError(base::text("router ", name, ": top_k ", top_k, " of ", experts,
                                      " experts: expected at most ", experts));
  }
  if (kind != "topk" && balance == "switch") {
    throw base::UsageError(base::text("router ", name, ": balance switch needs kind topk: with ",
                                      kind,
                                      " gates every expert is always used, the term is constant"));
  }
}

}  // namespace dfmoa::gates
