// Runs of one model on any layout of processes, and how far apart what they save is.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "checkpoints/reader.h"
#include "checkpoints/retention.h"
#include "tests/support/small_run.h"

namespace dfmoa::distributed {

/// How a run is spread.
struct Layout {
  int processes = 1;
  int expert = 1;
  std::string transport = "replicate";
  std::string memory = "keep";
  std::string gather = "auto";
  train::Keys more{};

  [[nodiscard]] std::string name() const {
    auto all = base::text("P", processes, "EP", expert, "_", transport, "_", memory, "_", gather);
    for (const auto& [key, value] : more) all += "_" + key + value;
    return all;
  }
};

/// Every transport in every memory form, for worlds of `processes` of which `expert` share.
inline std::vector<Layout> sharded_layouts(int processes, int expert) {
  return {{processes, expert, "move_weights", "recompute", "block"},
          {processes, expert, "move_weights", "recompute", "step"},
          {processes, expert, "move_weights", "keep", "step"},
          {processes, expert, "move_tokens", "recompute"},
          {processes, expert, "move_tokens", "keep"}};
}

/// Worlds of one to four processes and all ways to share experts in them.
inline std::vector<Layout> every_layout() {
  std::vector<Layout> all{{2, 1}, {3, 1, "replicate", "recompute"}, {4, 1}, {4, 2}};
  all.insert(all.end(), {{1, 1, "move_weights", "recompute", "block"},
                         {1, 1, "move_tokens"},
                         {2, 1, "move_weights", "keep", "step"},
                         {2, 1, "move_tokens", "recompute"}});
  for (const auto& [processes, expert] :
       std::vector<std::pair<int, int>>{{2, 2}, {3, 3}, {4, 2}, {4, 4}}) {
    for (auto& layout : sharded_layouts(processes, expert)) all.push_back(std::move(layout));
  }
  return all;
}

/// One of each kind, where what is tested does not depend on the numbers.
inline std::vector<Layout> some_layouts() {
  return {{3, 1},
          {2, 2, "move_weights", "recompute", "block"},
          {4, 2, "move_weights", "keep", "step"},
          {4, 4, "move_weights", "recompute", "block"},
          {3, 3, "move_tokens", "recompute"},
          {4, 2, "move_tokens"}};
}

inline std::vector<Layout> one_of_each_transport() {
  return {{3, 1}, {4, 2, "move_weights", "recompute", "block"}, {4, 2, "move_tokens"}};
}

class ParallelRun : public train::SmallRun {
 protected:
  using State = std::map<std::string, std::vector<double>>;

  /// Prompts of several tokens: what gates per document read.
  void SetUp() override {
    SmallRun::SetUp();
    std::string content;
    for (int i = 0; i < 40; ++i) {
      content += base::text(R"({"prompt": "ask )", i, R"(", "completion": ")", i, "\"}\n");
    }
    write("train.jsonl", content);
  }

  /// Everything in fp64, with a learning rate that moves.
  [[nodiscard]] train::RunConfig config(const model::AdapterPlan& plan,
                                        const train::Keys& keys = {}) const {
    train::RunConfig run;
    run.plan = plan;
    train::Keys all{{"train.steps", "3"},        {"train.micro_batches", "3"},
                    {"train.tokens", "16"},      {"train.learning_rate", "1e-2"},
                    {"train.precision", "fp64"}, {"train.schedule", "constant"},
                    {"train.warmup", "0"}};
    all.insert(all.end(), keys.begin(), keys.end());
    return with(all, run);
  }

  [[nodiscard]] static train::RunConfig on(const Layout& layout, train::RunConfig run) {
    run.set("parallel.expert", std::to_string(layout.expert));
    run.set("parallel.transport", layout.transport);
    run.set("parallel.gather", layout.gather);
    run.set("train.memory", layout.memory);
    for (const auto& [key, value] : layout.more) run.set(key, value);
    return run;
  }

  /// The state before the first step, with experts and routers that do something.
  [[nodiscard]] std::string stirred(const train::RunConfig& run, const std::string& name) const {
    const auto comm = comm::make_single();
    (void)train(run, into(name, 0), *comm, at::kCPU,
                [](model::Transformer& model) { model::stir(model); });
    return (folder_ / name / "checkpoints" / checkpoints::folder_name(0)).string();
  }

  /// Trains from a checkpoint on a layout; -> the report of process 0.
  train::RunReport train_on(const Layout& layout, const train::RunConfig& run,
                            const std::string& name, const std::string& from,
                            std::int64_t stop_after = -1) const {
    train::RunReport report;
    comm::run_local(layout.processes, [&](comm::Communicator& comm) {
      auto options = into(name, stop_after, from);
      options.allow_change = {"train.steps"};
      const auto mine = train(on(layout, run), options, comm).report;
      if (comm.process() == 0) report = mine;
    });
    return report;
  }

  /// Goes on with a run of this name, or begins it.
  train::RunReport go_on(const Layout& layout, const train::RunConfig& run, const std::string& name,
                         std::int64_t stop_after = -1) const {
    return train_on(layout, run, name, "auto", stop_after);
  }

  /// Three SGD or AdamW steps from one stirred state end alike on all layouts.
  void expect_one_result(const train::RunConfig& run, const std::vector<Layout>& layouts,
                         double bound = 1e-12) const {
    const auto from = stirred(run, "stirred");
    (void)train_on({}, run, "one", from);
    const auto expected = state_of("one");
    for (const auto& layout : layouts) {
      (void)train_on(layout, run, layout.name(), from);
      expect_same(layout.name(), expected, bound);
    }
  }

  /// Every real array of the newest checkpoint of a run.
  [[nodiscard]] State state_of(const std::string& name) const {
    base::Logger log(false);
    const auto checkpoint = checkpoints::find_newest(folder_ / name / "checkpoints", log);
    State state;
    for (const auto& [path, info] : checkpoint.value().datasets()) {
      if (info.dtype != base::DType::f64) continue;
      auto& values = state[path];
      values.resize(static_cast<std::size_t>(base::count_of(info.shape)));
      if (!values.empty()) checkpoint->read(path, values.data());
    }
    return state;
  }

  /// Values, first and second moments: what differences of each are relative to the largest of.
  [[nodiscard]] static std::string kind_of(const std::string& path) {
    return path.starts_with("optimizer/") ? path.substr(0, path.find('/', 10)) : "value";
  }

  /// The largest difference, relative to the largest number of its kind, and where it is.
  [[nodiscard]] static std::pair<double, std::string> distance(const State& one, const State& two) {
    std::map<std::string, double> scale;
    for (const auto& [path, x] : one) {
      for (const auto value : x) {
        scale[kind_of(path)] = std::max(scale[kind_of(path)], std::abs(value));
      }
    }
    std::pair<double, std::string> worst{0, "nothing"};
    if (one.size() != two.size()) return {1e9, "number of arrays"};
    for (const auto& [path, x] : one) {
      const auto found = two.find(path);
      if (found == two.end() || found->second.size() != x.size()) return {1e9, path};
      for (std::size_t i = 0; i < x.size(); ++i) {
        auto difference = std::abs(x[i] - found->second[i]);
        if (difference != 0) difference /= scale[kind_of(path)];  // SGD has no moments: all are 0
        if (std::isnan(difference)) return {1e9, path + " is not a number"};
        if (difference > worst.first) worst = {difference, path};
      }
    }
    return worst;
  }

  void expect_same(const std::string& name, const State& expected, double bound = 1e-12) const {
    const auto [worst, where] = distance(expected, state_of(name));
    EXPECT_LE(worst, bound) << name << ": " << where;
  }
};

}  // namespace dfmoa::distributed
