// Every kind of mixture and of attention gates on a tiny model: what each law is tested on.
#pragma once

#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "src/model/transformer.h"

namespace dfmoa::tests {

struct System {
  std::string name;
  model::AdapterPlan plan;
  bool is_literal = false;  ///< as published: it need not start as its base, nor be causal

  friend void PrintTo(const System& system, std::ostream* out) { *out << system.name; }
};

/// LoRA experts on some sites behind one router of this kind.
inline model::AdapterPlan experts_behind(const std::string& kind, std::int64_t experts = 3) {
  model::AdapterPlan plan;
  auto& adapter = plan.adapters["mix"];
  adapter.experts = experts;
  adapter.rank = 2;
  adapter.router = "main";
  plan.routers["main"].kind = kind;
  return plan;
}

/// LoRA on five linears, a parallel and a prompt adapter, each with a gate of its own.
inline model::AdapterPlan heterogeneous(const std::string& kind) {
  model::AdapterPlan plan;
  auto& lora = plan.adapters["lora"];
  lora.sites = {"q", "k", "v", "o", "down"};
  lora.experts = 1;
  lora.rank = 2;
  for (const std::string side : {"parallel", "prompt"}) {
    plan.adapters[side].kind = side;
    plan.adapters[side].experts = 1;
    plan.adapters[side].width = 3;
  }
  for (auto& [name, adapter] : plan.adapters) adapter.router = "block";
  plan.routers["block"].kind = kind;
  plan.routers["block"].over = "adapters";
  return plan;
}

inline model::AdapterPlan attention_gates(const std::string& heads, const std::string& dimensions) {
  model::AdapterPlan plan;
  if (!heads.empty()) {
    plan.dfa.router = "heads";
    plan.routers["heads"].kind = heads;
  }
  if (!dimensions.empty()) {
    plan.dfa.rank_gate = "dimensions";
    plan.rank_gates["dimensions"].kind = dimensions;
  }
  return plan;
}

inline std::vector<System> corrected_systems() {
  std::vector<System> all;
  all.push_back({"df_moa", experts_behind("softmax")});
  all.back().plan.adapters["mix"].rank_gate = "gate";
  all.back().plan.rank_gates["gate"] = {};
  all.push_back({"proximal", all.back().plan});
  all.back().plan.rank_gates["gate"].kind = "proximal";
  all.push_back({"adamole", experts_behind("threshold")});
  all.back().plan.routers["main"].input = "per_site";
  all.back().plan.routers["main"].balance = "switch";
  all.push_back({"moa_soft", heterogeneous("sigmoid")});
  all.back().plan.routers["block"].network = "mlp";
  all.push_back({"moa_sparse", heterogeneous("sigmoid_threshold")});
  all.back().plan.adapters.erase("prompt");
  all.push_back({"sparsegen", experts_behind("sparsegen")});
  all.push_back({"gate_conditioned", experts_behind("topk")});
  all.back().plan.routers["main"].scope = "prompt_mean";
  all.back().plan.routers["main"].entropy = "fixed";
  all.push_back({"running_mean", experts_behind("softmax")});
  all.back().plan.routers["main"].scope = "running_mean";
  all.back().plan.routers["main"].balance = "cv2";
  all.push_back({"hydra", experts_behind("softmax")});
  all.back().plan.adapters["mix"].shared_a = true;
  all.back().plan.routers["main"].balance = "mutual_information";
  all.push_back({"mola", experts_behind("softmax")});
  all.back().plan.adapters["mix"].layers = "0";
  all.back().plan.adapters["more"] = all.back().plan.adapters["mix"];
  all.back().plan.adapters["more"].layers = "1";
  all.back().plan.adapters["more"].experts = 4;
  all.push_back({"dfa", attention_gates("softmax", "hard_concrete")});
  all.push_back({"dfa_sigmoid_proximal", attention_gates("sigmoid", "proximal")});
  all.push_back({"dfa_with_experts", experts_behind("softmax")});
  all.back().plan.dfa = all[10].plan.dfa;
  all.back().plan.routers["heads"] = all[10].plan.routers["heads"];
  all.back().plan.routers["heads"].confidence = "dual";
  all.back().plan.rank_gates = all[10].plan.rank_gates;
  return all;
}

/// As published, with the repairs that docs/math.md names.
inline std::vector<System> literal_systems() {
  std::vector<System> all;
  all.push_back({"df_moa_literal", experts_behind("softmax"), true});
  all.back().plan.adapters["mix"].rank_gate = "gate";
  all.back().plan.adapters["mix"].scale = "literal";
  all.back().plan.rank_gates["gate"].kind = "literal";
  all.back().plan.rank_gates["gate"].strength = 1e-4;
  all.back().plan.routers["main"].entropy = "literal";
  all.back().plan.routers["main"].scope = "first_token";
  all.push_back({"adamole_literal", experts_behind("threshold"), true});
  all.back().plan.adapters["mix"].scale = "literal";
  all.back().plan.routers["main"].input = "per_site";
  all.back().plan.routers["main"].balance = "threshold_literal";
  all.push_back({"moa_sparse_literal", heterogeneous("sigmoid_threshold_literal"), true});
  all.back().plan.adapters.erase("prompt");
  all.push_back({"gate_conditioned_fixed", experts_behind("topk"), true});
  all.back().plan.routers["main"].scope = "first_token";
  all.back().plan.routers["main"].entropy = "fixed";
  all.back().plan.routers["main"].entropy_of = "unit";
  all.push_back({"gate_conditioned_literal", experts_behind("topk_literal"), true});
  all.back().plan.adapters["mix"].scale = "literal";
  all.back().plan.routers["main"].mix = "logits";
  all.back().plan.routers["main"].scope = "first_token";
  all.back().plan.routers["main"].entropy = "fixed";
  all.back().plan.routers["main"].entropy_of = "unit";
  all.push_back({"dfa_literal", attention_gates("softmax", "literal"), true});
  all.back().plan.dfa.attention = "literal";
  all.back().plan.rank_gates["dimensions"].strength = 1e-4;
  all.back().plan.routers["heads"].scope = "first_token";
  all.back().plan.routers["heads"].entropy = "literal";
  all.back().plan.routers["heads"].entropy_weight = 0.05;
  return all;
}

inline std::vector<System> all_systems() {
  auto all = corrected_systems();
  for (auto& system : literal_systems()) all.push_back(std::move(system));
  return all;
}

}  // namespace dfmoa::tests
