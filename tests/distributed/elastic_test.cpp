// A run goes on where it stopped, on whatever processes there are then.
#include "tests/distributed/parallel_run.h"
#include "tests/support/systems.h"
#include "tests/support/tensors.h"

namespace dfmoa::distributed {
namespace {

class ElasticTest : public ParallelRun {
 protected:
  /// Eight steps of a mixture whose rank is cut before the fourth.
  [[nodiscard]] train::RunConfig elastic(const train::Keys& more = {}) const {
    auto plan = tests::experts_behind("topk");
    plan.adapters["mix"].rank_gate = "gate";
    plan.rank_gates["gate"].start = 0;
    plan.rank_gates["gate"].cut = 0.375;
    plan.rank_gates["gate"].budget = 50;
    train::Keys keys{{"train.steps", "8"}, {"train.optimizer", "sgd"}, {"checkpoint.every", "0"}};
    keys.insert(keys.end(), more.begin(), more.end());
    return config(plan, keys);
  }

  [[nodiscard]] checkpoints::Checkpoint newest(const std::string& name) const {
    base::Logger log(false);
    return checkpoints::find_newest(folder_ / name / "checkpoints", log).value();
  }

  /// Where in the data a run stands.
  [[nodiscard]] std::map<std::string, base::StateValue> position(const std::string& name) const {
    std::map<std::string, base::StateValue> values;
    const auto checkpoint = newest(name);
    for (const auto& [key, value] : checkpoint.values()) {
      if (key.starts_with("data/") || key == "train/step" || key == "train/tokens_seen") {
        values[key] = value;
      }
    }
    return values;
  }

  /// Logits of a row of three documents.
  [[nodiscard]] static at::Tensor logits_of(const model::Transformer& model) {
    const auto rows = model.pack_sequences({{3, 4, 5, 6, 7}, {70, 71}, {9, 8, 7}}, {0, 0, 0});
    return model.logits(model.hidden(rows), at::arange(10));
  }
};

/// A layout and the step at which it stops.
using Leg = std::pair<Layout, std::int64_t>;

TEST_F(ElasticTest, any_layout_goes_on_with_what_another_has_saved) {
  const auto run = elastic();
  const auto from = stirred(run, "stirred");
  (void)train_on({}, run, "straight", from);
  const auto expected = state_of("straight");
  const Layout tokens{4, 4, "move_tokens", "recompute"};
  const Layout weights{2, 2, "move_weights", "recompute", "block"};
  Layout balanced{4, 2, "move_weights", "keep", "step", {{"parallel.owners", "balanced"}}};
  Layout placed{3, 3, "move_tokens", "keep", "auto", {{"parallel.owners", "2,2,0"}}};
  const std::vector<std::vector<Leg>> chains{
      {{tokens, 2}, {{3, 1}, 4}, {{1, 1}, 6}, {weights, 8}},
      {{balanced, 2}, {tokens, 5}, {balanced, 7}, {placed, 8}},
      {{placed, 3}, {balanced, 4}, {weights, 8}},
      {{weights, 5}, {{1, 1, "move_tokens"}, 6}, {tokens, 8}}};
  for (std::size_t c = 0; c < chains.size(); ++c) {
    const auto name = base::text("chain", c);
    for (const auto& [layout, stop] : chains[c]) {
      const bool begins = !std::filesystem::exists(folder_ / name);
      const auto report =
          begins ? train_on(layout, run, name, from, stop) : go_on(layout, run, name, stop);
      EXPECT_EQ(report.steps, stop) << name;
    }
    expect_same(name, expected);
    EXPECT_EQ(position(name), position("straight")) << name;
  }
  EXPECT_EQ(position("straight").size(), 9U);
}

TEST_F(ElasticTest, a_resume_on_the_same_layout_is_bitwise) {
  const auto run = elastic({{"train.steps", "20"}, {"train.optimizer", "adamw"}});
  for (const auto& layout : one_of_each_transport()) {
    const auto name = layout.name();
    const auto straight = go_on(layout, run, name + "straight");
    const auto half = go_on(layout, run, name, 10);
    EXPECT_NE(half.parameters_hash, straight.parameters_hash);
    const auto whole = go_on(layout, run, name);
    EXPECT_EQ(whole.steps, 20);
    EXPECT_EQ(whole.parameters_hash, straight.parameters_hash) << name;
    EXPECT_EQ(whole.ce, straight.ce) << name;
    EXPECT_EQ(position(name), position(name + "straight"));
  }
}

TEST_F(ElasticTest, fifty_steps_repeat_bitwise) {
  const auto run = elastic({{"train.steps", "50"}, {"train.optimizer", "adamw"}});
  for (const auto& layout : one_of_each_transport()) {
    const auto first = go_on(layout, run, layout.name() + "first");
    EXPECT_EQ(first.steps, 50);
    EXPECT_EQ(go_on(layout, run, layout.name()).parameters_hash, first.parameters_hash)
        << layout.name();
  }
}

/// Before and after the cut, when some experts have lost directions.
TEST_F(ElasticTest, one_state_has_one_hash_wherever_it_lies) {
  const auto run = elastic({{"train.optimizer", "adamw"}});
  for (const std::int64_t step : {2, 5}) {
    const auto source = base::text("source", step);
    const auto saved = go_on({4, 4, "move_tokens"}, run, source, step);
    for (const auto& layout : some_layouts()) {
      const auto name = base::text(layout.name(), "at", step);
      const auto report = train_on(layout, run, name, saved.checkpoint.string(), step);
      EXPECT_EQ(report.parameters_hash, saved.parameters_hash) << name;
      EXPECT_EQ(distance(state_of(source), state_of(name)).first, 0) << name << ": moments too";
    }
  }
}

TEST_F(ElasticTest, one_process_opens_what_sharded_ones_have_trained) {
  auto plan = tests::heterogeneous("sigmoid");  // with adapters beside linears
  plan.adapters["lora"].experts = 1;
  const auto beside = config(plan, {{"checkpoint.every", "0"}});
  const auto heads =
      config(tests::attention_gates("softmax", "hard_concrete"), {{"checkpoint.every", "0"}});
  std::int64_t number = 0;
  for (const auto& run : {elastic(), beside, heads}) {
    const auto kind = base::text("kind", number++);
    const auto from = stirred(run, kind + "stirred");
    for (const auto& layout : some_layouts()) {
      const auto name = kind + layout.name();
      std::vector<at::Tensor> logits(static_cast<std::size_t>(layout.processes));
      comm::run_local(layout.processes, [&](comm::Communicator& comm) {
        auto options = into(name, -1, from);
        (void)train(on(layout, run), options, comm, at::kCPU, {}, [&](model::Transformer& model) {
          logits[static_cast<std::size_t>(comm.process())] = logits_of(model);
        });
      });
      base::Logger log(false);
      const auto opened = train::open_model(folder_ / name, "", log);
      const auto expected = logits_of(*opened.model);
      const auto scale = expected.abs().max().item<double>();
      for (const auto& mine : logits) {
        EXPECT_LE(tests::distance(mine, expected), 1e-12 * scale) << name;
      }
    }
  }
}

}  // namespace
}  // namespace dfmoa::distributed
