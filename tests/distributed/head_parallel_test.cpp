// Heads at their owners: what one process computes, on every layout of processes and heads.
#include "distributed/head_parallel.h"

#include <numeric>

#include "src/base/error.h"
#include "src/ops/attention.h"
#include "tests/distributed/parallel_run.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_gpt2.h"

namespace dfmoa::distributed {
namespace {

constexpr std::int64_t kWidth = 4;

/// Heads, their owners, and the lengths of every process's documents.
struct HeadCase {
  std::string name;
  std::int64_t kv_heads = 1;
  std::vector<int> head_H;
  std::vector<std::vector<std::int64_t>> lengths_P;

  [[nodiscard]] std::int64_t heads() const { return static_cast<std::int64_t>(head_H.size()); }
  [[nodiscard]] int processes() const { return static_cast<int>(lengths_P.size()); }
  [[nodiscard]] std::vector<std::int64_t> tokens_P() const {
    std::vector<std::int64_t> tokens;
    for (const auto& lengths : lengths_P) {
      tokens.push_back(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
    }
    return tokens;
  }

  friend void PrintTo(const HeadCase& one, std::ostream* out) { *out << one.name; }
};

std::vector<int> in_turn(int heads, int processes) {
  std::vector<int> owners;
  for (int h = 0; h < heads; ++h) owners.push_back(h % processes);
  return owners;
}

const std::vector<HeadCase>& head_cases() {
  static const std::vector<HeadCase> all{
      {"nine_heads_on_two", 3, in_turn(9, 2), {{5, 3}, {4}}},
      {"nine_heads_on_four", 3, in_turn(9, 4), {{5, 3}, {4}, {}, {1, 1, 6}}},
      {"an_owner_of_nothing", 3, {2, 0, 0, 2, 2, 2, 0, 0, 2}, {{2, 3}, {7}, {4, 1}}},
      {"groups_stay_together", 2, {1, 1, 1, 1, 0, 0, 0, 0}, {{2, 3}, {7}}},
      {"unequal_groups", 2, {0, 0, 1, 1, 1, 1, 1, 1}, {{2, 3}, {7}}},
      {"more_processes_than_heads", 1, {3, 1}, {{4}, {2, 2}, {3}, {1}}},
      {"one_process_has_tokens", 2, in_turn(4, 3), {{}, {6, 2}, {}}},
      {"an_empty_document", 2, in_turn(4, 2), {{0, 3}, {2, 0, 1}}},
      {"nobody_has_tokens", 2, in_turn(4, 2), {{}, {}}},
  };
  return all;
}

/// Everybody's tokens in one row: the oracle.
struct OneRow {
  explicit OneRow(const HeadCase& one) {
    for (const auto& lengths : one.lengths_P) {
      for (const auto length : lengths) begin.push_back(begin.back() + length);
    }
    const auto random = [&](std::int64_t heads, const char* name) {
      return model::random_normal({begin.back(), heads, kWidth}, 1.0, 7, name);
    };
    inputs = {random(one.heads(), "q"), random(one.kv_heads, "k"), random(one.kv_heads, "v")};
    seed_TF = random(one.heads(), "dout").view({begin.back(), one.heads() * kWidth});
    for (auto& input : inputs) input.requires_grad_();
    out_TF = ops::packed_attention_plain(inputs[0], inputs[1], inputs[2], begin);
    gradients = torch::autograd::grad({out_TF}, inputs, {seed_TF});
  }

  std::vector<std::int64_t> begin{0};
  std::vector<at::Tensor> inputs, gradients;
  at::Tensor seed_TF, out_TF;
};

void expect_near(const at::Tensor& mine, const at::Tensor& expected, const std::string& what) {
  ASSERT_EQ(mine.sizes(), expected.sizes()) << what;
  if (mine.numel() == 0) return;
  EXPECT_LE((mine - expected).abs().max().item<double>(), 1e-13) << what;
}

class EveryHeadCase : public testing::TestWithParam<HeadCase> {
 protected:
  static void compare(const HeadCase& one, const OneRow& row, comm::Communicator& comm) {
    const auto place = static_cast<std::size_t>(comm.process());
    const BlockOwners owners{{}, one.head_H};
    ShardedHeads heads(comm, [&](std::int64_t) -> const BlockOwners& { return owners; });
    const auto tokens_P = one.tokens_P();
    const auto first = std::accumulate(
        tokens_P.begin(), tokens_P.begin() + static_cast<std::ptrdiff_t>(place), std::int64_t{0});
    const auto own = [&](const at::Tensor& all) {
      return all.detach().narrow(0, first, tokens_P[place]);
    };
    std::vector<at::Tensor> inputs;
    for (const auto& input : row.inputs) inputs.push_back(own(input).clone().requires_grad_());
    std::vector<std::int64_t> begin{0};
    for (const auto length : one.lengths_P[place]) begin.push_back(begin.back() + length);
    const auto out_TF = heads.attend(5, inputs[0], inputs[1], inputs[2], begin);
    const auto gradients = torch::autograd::grad({out_TF}, inputs, {own(row.seed_TF)});
    const auto who = base::text("process ", place, " ");
    expect_near(out_TF.detach(), own(row.out_TF), who + "output");
    const std::array<const char*, 3> names{"dq", "dk", "dv"};
    for (std::size_t i = 0; i < 3; ++i) {
      expect_near(gradients[i], own(row.gradients[i]), who + names[i]);
    }
  }
};

TEST_P(EveryHeadCase, gives_the_output_and_gradients_of_one_process) {
  const auto& one = GetParam();
  const OneRow row(one);
  comm::run_local(one.processes(), [&](comm::Communicator& comm) { compare(one, row, comm); });
}

INSTANTIATE_TEST_SUITE_P(Heads, EveryHeadCase, testing::ValuesIn(head_cases()),
                         [](const auto& one) { return one.param.name; });

Layout sharded(Layout layout, const train::Keys& more = {}) {
  layout.more = {{"parallel.heads", "shard"}};
  layout.more.insert(layout.more.end(), more.begin(), more.end());
  return layout;
}

/// A model, what is trained of it, and owners of its heads of which one has none.
struct HeadRun {
  std::string name;
  model::TinyShape shape{};  ///< without hidden: GPT-2
  std::string system;
  std::string owners;
  std::string micro_batches = "3";

  friend void PrintTo(const HeadRun& run, std::ostream* out) { *out << run.name; }
};

const std::vector<HeadRun>& head_runs() {
  const model::TinyShape nine{.hidden = 36, .heads = 9, .kv_heads = 3};
  static const std::vector<HeadRun> all{
      {"nine_heads", nine, "dfa", "2,0,0,2,2,2,0,0,2"},
      {"nine_heads_with_experts", nine, "dfa_with_experts", "2,0,0,2,2,2,0,0,2"},
      {"four_heads_with_experts", {}, "dfa_with_experts", "0,2,2,2"},
      {"four_heads_of_one_row", {}, "dfa_with_experts", "0,2,2,2", "1"},
      {"four_heads_sigmoid_proximal", {}, "dfa_sigmoid_proximal", "0,2,2,2", "4"},
      {"gpt2", {.hidden = 0}, "dfa", "2,0,0,2,2,2,0,0,2"},
  };
  return all;
}

std::vector<Layout> layouts_of(const HeadRun& run) {
  const train::Keys explicit_owners{{"parallel.head_owners", run.owners}};
  return {sharded({2, 2, "replicate"}),
          sharded({2, 2, "move_weights", "recompute", "block"}),
          sharded({2, 2, "move_tokens"}),
          sharded({3, 3, "replicate", "recompute"}, explicit_owners),
          sharded({3, 3, "move_weights"}, explicit_owners),
          sharded({3, 3, "move_tokens", "recompute"}, explicit_owners),
          sharded({4, 2, "replicate"}),
          sharded({4, 2, "move_weights", "recompute"}),
          sharded({4, 4, "move_weights"}),
          sharded({4, 4, "move_tokens", "recompute"})};
}

model::AdapterPlan plan_of(const std::string& name) {
  for (const auto& system : tests::all_systems()) {
    if (system.name == name) return system.plan;
  }
  throw std::runtime_error("no system " + name);
}

class EveryHeadRun : public ParallelRun, public testing::WithParamInterface<HeadRun> {
 protected:
  void SetUp() override {
    ParallelRun::SetUp();
    if (GetParam().shape.hidden == 0) {
      model::write_tiny_gpt2(folder_);
    } else {
      model::write_tiny_model(folder_, GetParam().shape);
    }
  }
};

TEST_P(EveryHeadRun, ends_at_the_same_state_wherever_heads_run) {
  auto plan = plan_of(GetParam().system);
  for (auto& [name, gate] : plan.rank_gates) {  // the whole life of a gate in three steps
    gate.start = 0;
    gate.cut = 0.67;
    gate.budget = 12;
  }
  const auto run =
      config(plan, {{"train.optimizer", "sgd"}, {"train.micro_batches", GetParam().micro_batches}});
  const auto from = stirred(run, "stirred");
  (void)train_on({}, run, "one", from);
  const auto expected = state_of("one");
  for (const auto& layout : layouts_of(GetParam())) {
    (void)train_on(layout, run, layout.name(), from);
    expect_same(layout.name(), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, EveryHeadRun, testing::ValuesIn(head_runs()),
                         [](const auto& one) { return one.param.name; });

class HeadParallel : public ParallelRun {
 protected:
  /// What process 0 sends in a run of three steps.
  std::int64_t sent_bytes(const Layout& layout, const train::RunConfig& run) const {
    std::int64_t sent = 0;
    comm::run_local(layout.processes, [&](comm::Communicator& comm) {
      (void)train(on(layout, run), into(layout.name()), comm);
      if (comm.process() == 0) sent = comm.recorder().sent_bytes();
    });
    return sent;
  }

  void expect_refused(const Layout& layout, const model::AdapterPlan& plan,
                      const std::string& word) const {
    const auto sentence = formats::sentence_of<base::UsageError>(
        [&] { (void)train_on(layout, config(plan), "refused", "auto"); });
    EXPECT_NE(sentence.find(word), std::string::npos) << sentence;
  }
};

TEST_F(HeadParallel, sends_heads_only_where_they_are_sharded) {
  const auto run = config(plan_of("dfa"));
  const Layout home{2, 2, "replicate"};
  EXPECT_GT(sent_bytes(sharded(home), run), 2 * sent_bytes(home, run));
}

TEST_F(HeadParallel, evaluates_held_out_rows_with_sharded_heads) {
  write_numbers("held_out.jsonl", 7);
  const auto run =
      config(plan_of("dfa_with_experts"),
             {{"data.eval", (folder_ / "held_out.jsonl").string()}, {"train.evaluate_every", "1"}});
  const auto from = stirred(run, "stirred");
  (void)train_on({}, run, "one", from);
  (void)train_on(sharded({3, 3, "move_weights"}), run, "three", from);
  const auto expected = figures("one", "eval/loss");
  ASSERT_FALSE(expected.empty());
  for (const auto& [step, ce] : figures("three", "eval/loss")) {
    EXPECT_NEAR(ce, expected.at(step), 1e-9 * ce) << step;
  }
}

TEST_F(HeadParallel, refuses_to_shard_where_nothing_is_to_be_sharded) {
  expect_refused(sharded({2, 1, "replicate"}), plan_of("dfa"), "parallel.expert");
  expect_refused(sharded({2, 2, "move_weights"}), tests::experts_behind("softmax"), "[dfa]");
  expect_refused(sharded({2, 2, "replicate"}), plan_of("dfa_literal"), "attention = pretrained");
}

}  // namespace
}  // namespace dfmoa::distributed
