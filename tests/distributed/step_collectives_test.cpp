// What the processes tell each other in a step, nothing more and nothing less.
#include <mutex>

#include "tests/distributed/parallel_run.h"
#include "tests/support/systems.h"
#include "tests/support/tensors.h"

namespace dfmoa::distributed {
namespace {

using Records = std::vector<comm::Record>;

class StepCollectives : public ParallelRun {
 protected:
  /// Two steps of a mixture with noise and a budget, whose cut never comes.
  [[nodiscard]] train::RunConfig mixture(const std::string& micro_batches,
                                         const std::string& statistics = "exact") const {
    auto plan = tests::experts_behind("topk");
    plan.adapters["mix"].rank_gate = "gate";
    plan.rank_gates["gate"].start = 0;
    plan.rank_gates["gate"].cut = 1;
    plan.rank_gates["gate"].budget = 60;
    return config(plan, {{"train.steps", "9"},
                         {"train.micro_batches", micro_batches},
                         {"train.statistics", statistics}});
  }

  /// Every process's collectives of the second step, by process.
  [[nodiscard]] std::vector<Records> second_step(const Layout& layout, const train::RunConfig& run,
                                                 const std::string& name) const {
    std::vector<Records> all(static_cast<std::size_t>(layout.processes));
    std::mutex mutex;
    comm::run_local(layout.processes, [&](comm::Communicator& comm) {
      (void)train(on(layout, run), into(name, 2, "none"), comm);
      const auto& records = comm.recorder().records();
      std::vector<std::size_t> ends;  // of the two calls that end a step
      for (std::size_t i = 1; i < records.size(); ++i) {
        if (records[i].tag == "C3" && records[i - 1].tag == "C3") ends.push_back(i + 1);
      }
      const std::lock_guard lock(mutex);
      ASSERT_EQ(ends.size(), 2U) << name;
      const auto at = [&](std::size_t i) {
        return records.begin() + static_cast<std::ptrdiff_t>(ends[i]);
      };
      all[static_cast<std::size_t>(comm.process())] = Records(at(0), at(1));
      EXPECT_TRUE(at(1)->tag.starts_with("checkpoint") || at(1)->tag.starts_with("state"))
          << at(1)->tag;
    });
    return all;
  }
};

std::int64_t count_tag(const Records& records, const std::string& tag) {
  return std::count_if(records.begin(), records.end(),
                       [&](const auto& record) { return record.tag == tag; });
}

/// Passes of a block in a step of this process.
std::int64_t passes(const Layout& layout, std::int64_t micro_batches, bool exact) {
  const auto slots = (micro_batches + layout.processes - 1) / layout.processes;
  const bool counts_first = exact && micro_batches > layout.processes;
  return slots * ((counts_first ? 1 : 0) + 1 + (layout.memory == "recompute" ? 1 : 0));
}

void expect_alike(const std::vector<Records>& all, const std::string& name) {
  for (const auto& records : all) {
    ASSERT_EQ(records.size(), all[0].size()) << name;
    for (std::size_t i = 0; i < records.size(); ++i) {
      EXPECT_TRUE(records[i].matches(all[0][i]))
          << name << ": " << comm::describe(records[i]) << ", " << comm::describe(all[0][i]);
    }
  }
}

TEST_F(StepCollectives, are_C0_to_C3_on_every_layout_and_the_same_on_all_processes) {
  for (const std::string micro_batches : {"1", "4"}) {  // with 1, others have no token
    for (const auto& layout : every_layout()) {
      const auto name = layout.name() + "M" + micro_batches;
      const auto all = second_step(layout, mixture(micro_batches), name);
      expect_alike(all, name);
      const auto& step = all[0];
      ASSERT_GE(step.size(), 4U) << name;
      EXPECT_EQ(step.front().tag, "C0") << name;
      EXPECT_EQ(count_tag(step, "C0"), 1) << name;
      EXPECT_EQ(count_tag(step, "C1"), 1) << name;
      EXPECT_EQ(count_tag(step, "C3"), 2) << name;
      for (const auto& record : step) {
        if (record.tag == "C0" || record.tag == "C1" || record.tag == "C3") {
          EXPECT_EQ(record.op, "all_reduce") << name;
          EXPECT_EQ(record.processes, layout.processes) << name << ": over the world";
        } else {
          EXPECT_TRUE(record.tag.starts_with("C2/layer/")) << name << ": " << record.tag;
        }
      }
    }
  }
}

TEST_F(StepCollectives, weights_are_gathered_for_every_pass_or_once) {
  for (const std::string statistics : {"exact", "lag_one"}) {
    for (const std::int64_t micro_batches : {3, 4}) {
      for (const auto& layout : every_layout()) {
        if (layout.transport != "move_weights") continue;
        const auto name = base::text(layout.name(), "M", micro_batches, statistics);
        const auto all =
            second_step(layout, mixture(std::to_string(micro_batches), statistics), name);
        const auto slots = (micro_batches + layout.processes - 1) / layout.processes;
        const bool step = layout.gather == "step";
        for (const std::string block : {"C2/layer/0", "C2/layer/1"}) {
          EXPECT_EQ(count_tag(all[0], block + "/gather"),
                    step ? 1 : passes(layout, micro_batches, statistics == "exact"))
              << name;
          EXPECT_EQ(count_tag(all[0], block + "/scatter"), step ? 1 : slots) << name;
          EXPECT_EQ(count_tag(all[0], block + "/owned"), layout.processes > layout.expert) << name;
          EXPECT_EQ(count_tag(all[0], block + "/shared"), layout.processes > 1) << name;
        }
      }
    }
  }
}

TEST_F(StepCollectives, tokens_travel_for_every_pass_and_back_in_backward) {
  for (const std::int64_t micro_batches : {3, 4}) {
    for (const auto& layout : every_layout()) {
      if (layout.transport != "move_tokens") continue;
      const auto name = base::text(layout.name(), "M", micro_batches);
      const auto all = second_step(layout, mixture(std::to_string(micro_batches)), name);
      const auto forwards = passes(layout, micro_batches, true);
      const auto slots = (micro_batches + layout.processes - 1) / layout.processes;
      for (const std::string group : {"attention_in", "attention_out", "mlp_in", "mlp_out"}) {
        for (const std::string block : {"C2/layer/0", "C2/layer/1"}) {
          const auto tag = block + "/tokens/" + group;
          EXPECT_EQ(count_tag(all[0], tag + "/counts"), forwards) << name;
          EXPECT_EQ(count_tag(all[0], tag + "/documents"), forwards) << name << ": noise";
          EXPECT_EQ(count_tag(all[0], tag + "/send"), forwards + slots) << name;
          EXPECT_EQ(count_tag(all[0], tag + "/back"), forwards + slots) << name;
          EXPECT_EQ(count_tag(all[0], block + "/gather"), 0) << name << ": nothing else moves";
          EXPECT_EQ(count_tag(all[0], block + "/scatter"), 0) << name;
        }
      }
    }
  }
}

/// What beside linears is owned is small: it is gathered where tokens are sent to experts, too.
TEST_F(StepCollectives, beside_linears_weights_travel_even_where_tokens_do) {
  auto plan = tests::heterogeneous("sigmoid");
  const auto run = config(plan, {{"train.steps", "9"}});
  const Layout layout{2, 2, "move_tokens", "recompute"};
  const auto all = second_step(layout, run, "beside");
  expect_alike(all, "beside");
  for (const std::string block : {"C2/layer/0", "C2/layer/1"}) {
    EXPECT_EQ(count_tag(all[0], block + "/gather"), passes(layout, 3, true));
    EXPECT_EQ(count_tag(all[0], block + "/scatter"), 2);
  }
}

}  // namespace
}  // namespace dfmoa::distributed
