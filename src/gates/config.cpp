#include "src/gates/config.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::gates {

void RouterConfig::fields(base::FieldList& list) {
  list.add("kind", kind,
           "softmax: every expert; topk: the top_k largest, renormalised (topk_literal: not); "
           "threshold: what exceeds a trained threshold, renormalised; sigmoid: memberships; "
           "sigmoid_threshold: their excess over a trained threshold (sigmoid_threshold_literal: "
           "all of what exceeds it); sparsegen: trained sparsity")
      .one_of({"softmax", "topk", "threshold", "sigmoid", "sigmoid_threshold", "sparsegen",
               "topk_literal", "sigmoid_threshold_literal"});
  list.add("top_k", top_k, "experts per unit for kind topk").range(1, 4096);
  list.add("threshold_max", threshold_max,
           "largest trained threshold; -1: 1/experts (threshold), 0.5 (sigmoid_threshold)")
      .range(-1, 1);
  list.add("temperature", temperature, "logits are divided by it").range(1e-6, 1e6);
  list.add("network", network, "linear; mlp: SwiGLU-shaped with 4 hidden units an expert")
      .one_of({"linear", "mlp"});
  list.add("scope", scope,
           "a gate per token: token, or running_mean until it; a gate per document: span (its "
           "instruction), prompt_mean, last_prompt, first_token")
      .one_of({"token", "span", "prompt_mean", "last_prompt", "running_mean", "first_token"});
  list.add("input", input, "per_block: the block's first norm; per_site: each linear's own input")
      .one_of({"per_block", "per_site"});
  list.add("over", over,
           "experts: gate e is expert e of every linear; adapters: every linear, parallel and "
           "prompt adapter that names the router has gates of its own")
      .one_of({"experts", "adapters"});
  list.add("mix", mix,
           "linears: experts are mixed inside every linear; logits: each expert is a pass of the "
           "model of its own, one router for the whole model mixes their logits by document")
      .one_of({"linears", "logits"});
  list.add("init", init,
           "router weights: auto (zero for dense gates, else normal), zero, normal, uniform "
           "(+-1/sqrt(inputs))")
      .one_of({"auto", "zero", "normal", "uniform"});
  list.add("init_scale", init_scale, "standard deviation of init normal").range(0, 10);
  list.add("learning_rate", learning_rate, "peak rate of the router; -1: the adapters'")
      .range(-1, 10);
  balance_fields(list);
}

void RouterConfig::balance_fields(base::FieldList& list) {
  list.add("entropy", entropy, "entropy term: dual constraint, fixed weight, literal, none")
      .one_of({"dual", "fixed", "literal", "none"});
  list.add("entropy_of", entropy_of,
           "entropy = fixed is of the mean gate (load) or the mean of every unit's (unit)")
      .one_of({"load", "unit"});
  list.add("entropy_weight", entropy_weight,
           "weight at the start (dual, literal) or always (fixed)")
      .range(1e-4, 10);
  list.add("entropy_target", entropy_target, "dual: share of log(experts) to be reached")
      .range(0, 1);
  list.add("confidence", confidence,
           "dual: the mean entropy of a unit's gate is held below its target; none")
      .one_of({"none", "dual"});
  list.add("confidence_target", confidence_target, "confidence: share of log(experts)").range(0, 1);
  list.add("balance", balance,
           "switch: E * sum_e f_e P_e; cv2: squared variation of the load; mutual_information: of "
           "unit and expert, maximised; threshold_literal: E * sum_e f_e mean(p_e - tau); none")
      .one_of({"none", "switch", "cv2", "mutual_information", "threshold_literal"});
  list.add("balance_weight", balance_weight, "weight of the balance term").range(0, 100);
}

std::string RouterConfig::start() const {
  if (init != "auto") return init;
  return kind.starts_with("topk") ? "normal" : "zero";
}

bool RouterConfig::has_threshold() const {
  return kind == "threshold" || kind.starts_with("sigmoid_threshold") || kind == "sparsegen";
}

bool RouterConfig::is_independent() const {
  return kind.starts_with("sigmoid") || kind == "head_sigmoid";
}

bool RouterConfig::is_per_document() const {
  return scope != "token" && scope != "running_mean";
}

double RouterConfig::largest_threshold(std::int64_t experts) const {
  if (threshold_max >= 0) return threshold_max;
  return kind == "threshold" ? 1.0 / static_cast<double>(experts) : 0.5;
}

double RouterConfig::mean_gate(std::int64_t experts) const {
  const auto share = 1.0 / static_cast<double>(experts);
  if (kind == "sigmoid") return 0.5;
  if (kind == "sigmoid_threshold") {
    const double threshold = largest_threshold(experts) / 2;
    return threshold < 0.5 ? (0.5 - threshold) / (1 - threshold) : 1.0;
  }
  if (kind == "sigmoid_threshold_literal") return 0.5;
  if (kind == "topk_literal") return share * share * static_cast<double>(top_k);
  return kind == "topk" && top_k == 1 ? share * share : share;
}

void RouterConfig::validate(const std::string& name, std::int64_t experts) const {
  const auto refuse = [&](const auto&... words) {
    throw base::UsageError(base::text("router ", name, ": ", words...));
  };
  if (kind.starts_with("topk") && top_k > experts) {
    refuse("top_k ", top_k, " of ", experts, " experts: expected at most ", experts);
  }
  const bool is_dense = kind == "softmax" || kind == "sigmoid";
  if (is_dense && balance == "switch") {
    refuse("balance switch needs kind topk or one with a threshold: with ", kind,
           " gates every expert is always used, the term is constant");
  }
  if (kind != "threshold" && balance == "threshold_literal") {
    refuse("balance threshold_literal needs kind threshold, it is ", kind);
  }
  if (input == "per_site" && over == "adapters") {
    refuse("over = adapters gates several linears at once, expected input = per_block");
  }
  const bool is_one_gate = is_per_document() && input == "per_block" && over == "experts";
  if (mixes_logits() && !is_one_gate) {
    refuse("mix = logits gives a document one gate in the whole model, it has scope ", scope,
           ", input ", input, ", over ", over,
           ": expected a scope per document, per_block and experts");
  }
}

}  // namespace dfmoa::gates
