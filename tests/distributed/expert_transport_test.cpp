// One result for every layout of processes, transport and memory form.
#include "distributed/expert_transport.h"

#include "tests/distributed/parallel_run.h"
#include "tests/support/systems.h"

namespace dfmoa::distributed {
namespace {

using tests::System;

/// E 3: not a multiple of the processes that share them.
const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all{
      {2, 1, "replicate"},
      {2, 2, "move_weights"},
      {2, 2, "move_weights", "recompute", "block"},
      {2, 2, "move_tokens"},
      {3, 3, "move_weights", "recompute", "step"},
      {3, 3, "move_tokens", "recompute"},
      {4, 2, "move_weights", "recompute"},
      {4, 2, "move_tokens"},
      {4, 4, "move_weights"},
      {4, 4, "move_tokens", "recompute"},
  };
  return all;
}

class EverySystem : public ParallelRun, public testing::WithParamInterface<System> {};

TEST_P(EverySystem, ends_at_the_same_state_on_every_layout) {
  auto plan = GetParam().plan;
  for (auto& [name, gate] : plan.rank_gates) {  // the whole life of a gate in three steps
    if (gate.kind == "literal") continue;
    gate.start = 0;
    gate.cut = 0.67;
    gate.budget = 12;
  }
  // Under Adam rounding grows where a gradient is a small sum of large ones, and with long steps
  // where gates are divided by what few of them leave.
  const auto run = config(plan, {{"train.optimizer", "sgd"}, {"train.learning_rate", "1e-3"}});
  const auto from = stirred(run, "stirred");
  (void)train_on({}, run, "one", from);
  const auto expected = state_of("one");
  for (const auto& layout : layouts()) {
    (void)train_on(layout, run, layout.name(), from);
    expect_same(layout.name(), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Systems, EverySystem, testing::ValuesIn(tests::all_systems()),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace dfmoa::distributed
