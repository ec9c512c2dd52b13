// One result for every layout of processes, transport and memory form.
#include "distributed/expert_transport.h"

#include <set>

#include "src/base/error.h"
#include "tests/distributed/parallel_run.h"
#include "tests/support/systems.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_run.h"

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

/// Experts with rank gates under a budget and both duals: all that is summed over a step is on.
model::AdapterPlan all_on(const std::string& gate, std::int64_t experts = 3,
                          std::int64_t rank = 2) {
  auto plan = tests::experts_behind(gate, experts);
  plan.adapters["mix"].rank = rank;
  plan.adapters["mix"].rank_gate = "gate";
  auto& router = plan.routers["main"];
  router.top_k = std::min<std::int64_t>(2, experts);
  router.entropy = "dual";
  router.confidence = "dual";
  router.balance = gate == "topk" ? "switch" : "cv2";
  router.balance_weight = 0.3;
  auto& rank_gate = plan.rank_gates["gate"];
  rank_gate.budget = 0.6 * static_cast<double>(14 * experts * rank);  // seven linears, two layers
  rank_gate.start = 0;
  rank_gate.cut = 0.67;
  return plan;
}

/// Clipped in every step; weight decay acts under AdamW alone. Its usual epsilon of 1e-8 would
/// enlarge what rounding leaves of a gradient that is nothing.
train::Keys optimised_by(const std::string& optimizer) {
  return {{"train.optimizer", optimizer},
          {"train.epsilon", "1e-5"},
          {"train.clip", "0.05"},
          {"train.weight_decay", "0.1"}};
}

struct MatrixCase {
  std::string gate, optimizer, micro_batches;
};

class EveryLayout : public ParallelRun, public testing::WithParamInterface<MatrixCase> {};

TEST_P(EveryLayout, ends_at_the_same_state) {
  const auto& [gate, optimizer, micro_batches] = GetParam();
  auto keys = optimised_by(optimizer);
  keys.emplace_back("train.micro_batches", micro_batches);
  // Sent tokens get the base's output and the experts' share added in another order, already in one
  // process: the last bit of a forward differs, and AdamW divides by the root of a moment that may
  // be small. Measured: 3e-12 in one process, at most 3e-11; under SGD 1e-15.
  const auto run = config(all_on(gate), keys);
  const auto from = stirred(run, "stirred");
  (void)train_on({}, run, "one", from);
  const auto expected = state_of("one");
  for (const auto& layout : every_layout()) {
    (void)train_on(layout, run, layout.name(), from);
    const bool adds_apart = layout.transport == "move_tokens" && optimizer == "adamw";
    expect_same(layout.name(), expected, adds_apart ? 1e-10 : 1e-12);
  }
  for (const auto& [step, norm] : figures("one", "train/grad_norm")) {
    EXPECT_GT(norm, 0.05) << "the gradient of step " << step << " was to be clipped";
  }
  EXPECT_GT(figures("one", "rank/cut/directions").at(3), 0);
}

std::vector<MatrixCase> matrix() {
  std::vector<MatrixCase> all;
  for (const std::string gate : {"softmax", "topk"}) {
    for (const std::string optimizer : {"sgd", "adamw"}) {
      for (const std::string micro_batches : {"1", "3", "4"}) {
        all.push_back({gate, optimizer, micro_batches});
      }
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Matrix, EveryLayout, testing::ValuesIn(matrix()), [](const auto& one) {
  return one.param.gate + "_" + one.param.optimizer + "_" + one.param.micro_batches;
});

class TransportTest : public ParallelRun {};

TEST_F(TransportTest, rows_of_any_length_and_processes_without_tokens_change_nothing) {
  write_texts("train.jsonl", {1, 14, 3, 9, 2, 12, 1, 1, 7, 15, 4, 2, 11, 5, 13, 6, 8, 10, 3, 1});
  for (const std::string micro_batches : {"2", "5"}) {  // of four processes two without tokens
    auto keys = optimised_by("sgd");
    keys.insert(keys.end(),
                {{"train.micro_batches", micro_batches}, {"train.seed", micro_batches}});
    const auto run = config(all_on("topk"), keys);
    const auto from = stirred(run, "stirred" + micro_batches);
    const auto one = "one" + micro_batches;
    (void)train_on({}, run, one, from);
    for (const auto& layout : some_layouts()) {
      const auto name = layout.name() + micro_batches;
      (void)train_on(layout, run, name, from);
      expect_same(name, state_of(one));
    }
  }
}

TEST_F(TransportTest, one_expert_of_rank_one_leaves_the_others_without_any) {
  for (const std::string gate : {"softmax", "topk"}) {
    auto plan = all_on(gate, 1, 1);
    plan.routers["main"].confidence = "none";  // one gate is always sure
    const auto run = config(plan, optimised_by("sgd"));
    const auto from = stirred(run, "stirred" + gate);
    (void)train_on({}, run, gate, from);
    for (const auto& layout : some_layouts()) {
      (void)train_on(layout, run, gate + layout.name(), from);
      expect_same(gate + layout.name(), state_of(gate));
    }
  }
}

/// A block of one adapter without a router: every other process holds nothing at all of it.
/// Rows of one matrix A, some of which travel and some lie everywhere.
TEST_F(TransportTest, experts_that_share_their_a_stand_beside_others) {
  auto plan = tests::experts_behind("softmax");
  plan.adapters["mix"].sites = {"q", "gate"};
  plan.adapters["more"] = plan.adapters["mix"];
  plan.adapters["mix"].shared_a = true;
  plan.adapters["more"].sites = {"k", "v", "up"};
  plan.adapters["more"].experts = 2;
  plan.adapters["more"].router = "other";
  plan.routers["other"].kind = "topk";
  expect_one_result(config(plan, {{"train.optimizer", "sgd"}, {"train.micro_batches", "4"}}),
                    some_layouts());
}

/// Whatever changes the last bits of a run is told from one checkpoint to the next.
TEST_F(TransportTest, gathers_owners_and_heads_decide_in_which_order_a_run_sums) {
  auto plan = all_on("softmax");
  plan.dfa.router = "heads";
  plan.routers["heads"].kind = "sigmoid";
  const auto order = [&](const Layout& layout) {
    const auto run = on(layout, config(plan));
    std::string words;
    comm::run_local(layout.processes, [&](comm::Communicator& comm) {
      const auto base = model::load_base_model(run.model, train::compute_type(run.train));
      model::Transformer model(base);
      ExpertTransport transport(model, comm, run.parallel, run.train.memory == "keep");
      transport.adapt(run.plan, 1);
      if (comm.process() == 0) words = transport.order_of_sums();
    });
    return words;
  };
  const Layout block{2, 2, "move_weights", "recompute", "block"};
  auto step = block;
  step.gather = "step";
  auto owners = block;
  owners.more = {{"parallel.owners", "1,0,1"}};
  auto heads = block;
  heads.more = {{"parallel.head_owners", "1,0,1,0"}};
  auto sharded = block;
  sharded.more = {{"parallel.heads", "shard"}};
  std::set<std::string> all;
  for (const auto& layout : {block, step, owners, heads, sharded}) all.insert(order(layout));
  EXPECT_EQ(all.size(), 5U);
  EXPECT_EQ(order(block), order({4, 2, "move_weights", "recompute", "block"}));
  EXPECT_EQ(order({2, 1}), "transport replicate");
}

TEST_F(TransportTest, a_block_may_lie_elsewhere_as_a_whole) {
  model::AdapterPlan plan;
  plan.adapters["side"].kind = "parallel";
  plan.adapters["side"].experts = 1;
  plan.adapters["side"].width = 3;
  expect_one_result(config(plan, optimised_by("sgd")), some_layouts());
}

TEST_F(TransportTest, experts_lie_wherever_the_configuration_puts_them) {
  std::vector<Layout> placed;
  for (auto layout : some_layouts()) {
    if (layout.expert < 2) continue;
    layout.more = {{"parallel.owners", "1,1,1"}};  // the others own nothing
    placed.push_back(layout);
    layout.more = {{"parallel.owners", layout.expert == 4 ? "3,0,3" : "1,0,1"}};
    placed.push_back(layout);
    layout.more = {{"parallel.owners", "balanced"}};
    placed.push_back(layout);
  }
  expect_one_result(config(all_on("topk"), optimised_by("sgd")), placed);
}

/// Before `rank.start` the gates are in no graph: their gradient is nothing, and so it must travel.
TEST_F(TransportTest, gates_that_are_held_at_one_travel_without_a_gradient) {
  auto plan = all_on("softmax");
  plan.rank_gates["gate"].start = 0.34;
  expect_one_result(config(plan, optimised_by("sgd")), some_layouts());
}

TEST_F(TransportTest, every_kind_of_gate_is_cut_alike_in_one_step) {
  for (const std::string kind : {"hard_concrete", "proximal", "norm", "svd"}) {
    auto plan = all_on("softmax");
    plan.rank_gates["gate"].kind = kind;
    plan.rank_gates["gate"].cut = 0.34;
    const auto run = config(plan, optimised_by("sgd"));
    const auto from = stirred(run, "stirred" + kind);
    (void)train_on({}, run, kind, from);
    EXPECT_LE(figures(kind, "rank/model/total").at(2), plan.rank_gates["gate"].budget) << kind;
    for (const auto& layout : one_of_each_transport()) {
      const auto name = kind + layout.name();
      (void)train_on(layout, run, name, from);
      expect_same(name, state_of(kind));
      for (const std::string key : {"rank/cut/ce_before", "rank/cut/ce_after"}) {
        EXPECT_NEAR(figures(name, key).at(2), figures(kind, key).at(2), 1e-12) << name << key;
      }
    }
  }
}

/// What a run tells of its steps, and of rows that it does not train on: an odd number of them.
TEST_F(TransportTest, figures_and_evaluations_are_those_of_one_process) {
  const auto held_out = write_texts("held_out.jsonl", {9, 12, 10, 14, 11});
  auto keys = optimised_by("sgd");
  keys.insert(keys.end(), {{"data.eval", held_out}, {"train.evaluate_every", "1"}});
  const auto run = config(all_on("topk"), keys);
  const auto from = stirred(run, "stirred");
  (void)train_on({}, run, "one", from);
  for (const auto& layout : some_layouts()) {
    (void)train_on(layout, run, layout.name(), from);
    for (const std::string key :
         {"eval/loss", "train/ce", "train/loss", "train/grad_norm", "rank/model/active",
          "rank/model/expected", "rank/model/total", "router/mean_load_cv"}) {
      const auto expected = figures("one", key);
      const auto found = figures(layout.name(), key);
      ASSERT_EQ(found.size(), 3U) << key;
      for (const auto& [step, value] : expected) {
        EXPECT_NEAR(found.at(step), value, 1e-12 * std::max(1.0, std::abs(value)))
            << layout.name() << " " << key << " " << step;
      }
    }
  }
}

TEST_F(TransportTest, statistics_of_the_last_step_go_on_with_a_checkpoint) {
  auto keys = optimised_by("sgd");
  keys.insert(keys.end(), {{"train.statistics", "lag_one"}, {"train.micro_batches", "4"}});
  const auto run = config(all_on("topk"), keys);
  const auto from = stirred(run, "stirred");
  (void)train_on({}, run, "one", from);
  const auto expected = state_of("one");
  const auto all = some_layouts();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto name = all[i].name();
    (void)train_on(all[i], run, name, from, 1);
    (void)go_on(all[(i + 1) % all.size()], run, name);
    expect_same(name, expected);
  }
}

TEST_F(TransportTest, layouts_that_cannot_be_are_refused) {
  comm::run_local(2, [](comm::Communicator& comm) {
    model::Transformer model(model::tiny_base({}, at::kDouble));
    const auto refused = [&](std::int64_t expert, const std::string& gather,
                             const std::string& said) {
      ParallelConfig config;
      config.expert = expert;
      config.transport = "move_weights";
      config.gather = gather;
      const auto sentence = tests::refusal<base::UsageError>(
          [&] { const ExpertTransport transport(model, comm, config, /*keeps_graphs=*/true); });
      EXPECT_TRUE(tests::contains(sentence, said)) << sentence;
      EXPECT_EQ(model.experts(), nullptr);
    };
    refused(3, "auto", "a divisor of the 2 processes");
    refused(2, "block", "expected train.memory = recompute");
  });
}

}  // namespace
}  // namespace dfmoa::distributed
