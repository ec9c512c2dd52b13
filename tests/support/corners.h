// The corners of a mixture at which each of its laws has to hold.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "src/gates/config.h"

namespace dfmoa::tests {

struct Corner {
  std::string name;
  std::int64_t experts = 3;
  std::int64_t rank = 2;
  std::string kind = "softmax";
  std::string scope = "token";
  std::string network = "linear";
  std::int64_t top_k = 1;
  std::int64_t empty_expert = -1;  ///< an expert that has lost all its directions
  bool closed = false;             ///< every gate is 0
  std::int64_t tokens = 9;

  friend void PrintTo(const Corner& corner, std::ostream* out) { *out << corner.name; }

  [[nodiscard]] gates::RouterConfig router() const {
    gates::RouterConfig config;
    config.kind = kind;
    config.top_k = top_k;
    config.scope = scope;
    config.network = network;
    return config;
  }
};

inline std::vector<Corner> corners() {
  std::vector<Corner> all(8);
  all[0].name = "plain";
  all[1].name = "one_expert";
  all[1].experts = 1;
  all[2].name = "every_expert_selected";
  all[2].kind = "topk";
  all[2].top_k = 3;
  all[3].name = "one_expert_selected";
  all[3].kind = "topk";
  all[4].name = "experts_of_rank_one";
  all[4].rank = 1;
  all[5].name = "an_expert_without_directions";
  all[5].empty_expert = 1;
  all[6].name = "all_gates_closed";
  all[6].closed = true;
  all[7].name = "no_tokens";
  all[7].tokens = 0;
  for (const std::string kind : {"threshold", "sigmoid", "sigmoid_threshold", "sparsegen"}) {
    Corner corner;
    corner.name = kind;
    corner.kind = kind;
    all.push_back(corner);
  }
  for (const std::string scope : {"running_mean", "prompt_mean", "last_prompt", "span"}) {
    Corner corner;
    corner.name = "reads_" + scope;
    corner.scope = scope;
    all.push_back(corner);
  }
  for (const std::string kind : {"threshold", "sigmoid", "sigmoid_threshold", "sparsegen"}) {
    Corner corner;
    corner.name = "one_expert_behind_" + kind;
    corner.kind = kind;
    corner.experts = 1;
    all.push_back(corner);
  }
  all.push_back({});
  all.back().name = "router_of_two_layers";
  all.back().network = "mlp";
  return all;
}

}  // namespace dfmoa::tests
