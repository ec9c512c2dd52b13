// The banks of a block of a tiny model, for tests of who owns and holds what.
#pragma once

#include <memory>

#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::distributed {

/// A model whose every block is whole, of hidden size 16, 4 heads and 2 heads of keys and values.
class WholeModel {
 public:
  explicit WholeModel(const model::AdapterPlan& plan) : model_(model::tiny_base({}, at::kDouble)) {
    model_.adapt(plan, 1);
    model::stir(model_);
  }
  [[nodiscard]] model::Block& block(std::size_t layer = 0) { return model_.blocks().at(layer); }
  [[nodiscard]] const model::BlockAdapters& banks() { return block().whole(); }
  [[nodiscard]] model::BlockShape shape() { return block().shape(); }

 private:
  model::Transformer model_;
};

/// Experts on q, v and down, an adapter beside linears, gates of head dimensions.
inline model::AdapterPlan mixed_plan() {
  auto plan = tests::attention_gates("", "hard_concrete");
  auto& adapter = plan.adapters["mix"];
  adapter.sites = {"q", "v", "down"};
  adapter.experts = 3;
  adapter.rank = 2;
  adapter.router = "main";
  adapter.rank_gate = "gate";
  plan.routers["main"].kind = "softmax";
  plan.rank_gates["gate"].budget = 12;
  auto& side = plan.adapters["side"];
  side.kind = "parallel";
  side.experts = 1;
  side.width = 3;
  return plan;
}

}  // namespace dfmoa::distributed
