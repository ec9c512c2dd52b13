#include "distributed/owned_rows.h"

#include <gtest/gtest.h>

#include <set>

#include "src/base/dtype.h"
#include "tests/distributed/small_banks.h"

namespace dfmoa::distributed {
namespace {

BlockOwners owners_of(WholeModel& model, int processes, std::vector<std::string> listed = {}) {
  ParallelConfig config;
  if (!listed.empty()) config.owners = std::move(listed);
  Ownership ownership(config, processes);
  return ownership.choose(model.banks(), model.shape(), 0);
}

/// Runs of one parameter.
std::vector<RowRun> runs_of(const std::vector<RowRun>& runs, const std::string& parameter) {
  std::vector<RowRun> found;
  for (const auto& run : runs) {
    if (run.parameter == parameter) found.push_back(run);
  }
  return found;
}

TEST(OwnedRows, every_row_of_every_parameter_lies_in_one_run) {
  for (const auto& system : tests::all_systems()) {
    WholeModel model(system.plan);
    for (const int processes : {1, 2, 4}) {
      const auto runs = rows_by_owner(model.banks(), model.shape(), owners_of(model, processes));
      std::size_t next = 0;
      for (const auto& spec : model::parameter_specs(model.banks(), model.shape())) {
        std::int64_t row = 0;
        for (; next < runs.size() && runs[next].parameter == spec.name; ++next) {
          EXPECT_EQ(runs[next].begin, row) << system.name << " " << spec.name;
          EXPECT_LT(runs[next].owner, processes);
          EXPECT_GE(runs[next].owner, kHeldByAll);
          row += runs[next].count;
        }
        EXPECT_EQ(row, spec.shape[0]) << system.name << " " << spec.name;
      }
      EXPECT_EQ(next, runs.size()) << system.name;
    }
  }
}

TEST(OwnedRows, experts_lie_with_their_owners_and_routers_everywhere) {
  WholeModel model(mixed_plan());
  const auto owners = owners_of(model, 2, {"0", "1", "1", "0"});
  const auto runs = rows_by_owner(model.banks(), model.shape(), owners);
  using Runs = std::vector<RowRun>;
  EXPECT_EQ(runs_of(runs, "attention_in/q/b"),
            (Runs{{"attention_in/q/b", 0, 2, 0, true}, {"attention_in/q/b", 2, 4, 1, true}}));
  // A and the gates of q and v, one after the other.
  for (const std::string name : {"attention_in/A", "attention_in/logit"}) {
    EXPECT_EQ(runs_of(runs, name), (Runs{{name, 0, 2, 0, true},
                                         {name, 2, 4, 1, true},
                                         {name, 6, 2, 0, true},
                                         {name, 8, 4, 1, true}}));
  }
  const std::string router = "router/main/weight";
  EXPECT_EQ(runs_of(runs, router), (Runs{{router, 0, 3, kHeldByAll, false}}));
  for (const auto& run : runs) {
    if (run.parameter.starts_with("parallel/side/")) {
      EXPECT_EQ(run.owner, 0);
      EXPECT_FALSE(run.of_expert);
    }
    const bool is_gate = run.parameter.starts_with("dfa/");
    EXPECT_TRUE(!is_gate || run.owner != kHeldByAll) << run.parameter;
  }
}

TEST(OwnedRows, rows_of_a_that_experts_share_are_held_by_all) {
  auto plan = tests::experts_behind("softmax", 2);
  plan.adapters["mix"].sites = {"q"};
  plan.adapters["mix"].shared_a = true;
  WholeModel model(plan);
  const auto runs = rows_by_owner(model.banks(), model.shape(), owners_of(model, 2));
  EXPECT_EQ(runs_of(runs, "attention_in/A"),
            (std::vector<RowRun>{{"attention_in/A", 0, 2, kHeldByAll, false}}));
  EXPECT_EQ(runs_of(runs, "attention_in/q/b"),
            (std::vector<RowRun>{{"attention_in/q/b", 0, 2, 0, true},
                                 {"attention_in/q/b", 2, 2, 1, true}}));
}

TEST(HeldBanks, of_all_owners_together_are_the_whole) {
  for (const auto& system : tests::all_systems()) {
    WholeModel model(system.plan);
    const auto owners = owners_of(model, 3);
    std::map<std::string, std::int64_t> held_rows;
    std::size_t sides = 0;
    for (int place = 0; place < 3; ++place) {
      const auto held = held_banks(model.banks(), owners, place);
      EXPECT_EQ(held.routers.size(), model.banks().routers.size());
      sides += held.sides.size();
      for (const auto& spec : model::parameter_specs(held, model.shape())) {
        held_rows[spec.name] += spec.shape[0];
      }
    }
    EXPECT_EQ(sides, model.banks().sides.size());
    const auto runs = rows_by_owner(model.banks(), model.shape(), owners);
    for (const auto& spec : model::parameter_specs(model.banks(), model.shape())) {
      std::int64_t expected = 0;
      for (const auto& run : runs_of(runs, spec.name)) {
        expected += run.owner == kHeldByAll ? 3 * run.count : run.count;
      }
      EXPECT_EQ(held_rows[spec.name], expected) << system.name << " " << spec.name;
    }
  }
}

TEST(HeldBanks, an_expert_that_lies_elsewhere_has_rank_0_and_keeps_its_number) {
  WholeModel model(mixed_plan());
  const auto held = held_banks(model.banks(), owners_of(model, 2, {"0", "1", "1", "0"}), 1);
  const auto& site = held.groups[0].sites[0];
  EXPECT_EQ(site.rank_E, (std::vector<std::int64_t>{0, 2, 2}));
  EXPECT_EQ(site.direction_id_N, (std::vector<std::int64_t>{2, 3, 4, 5}));
  EXPECT_TRUE(held.sides.empty());
  EXPECT_EQ(held.groups[0].column_N[0].item<int>(), 1) << "columns are those of the whole block";
}

TEST(HeldBanks, tokens_are_sent_to_lora_experts_alone) {
  WholeModel model(mixed_plan());
  const auto owners = owners_of(model, 2, {"0", "1", "1", "0"});
  const auto held = held_banks(model.banks(), owners, 1);
  const auto banks = with_held_experts(model.banks(), held);
  EXPECT_EQ(banks.groups[0].sites[0].rank_E, held.groups[0].sites[0].rank_E);
  EXPECT_EQ(banks.sides.size(), 1U);
  ASSERT_EQ(banks.attention.masks.size(), model.banks().attention.masks.size());
  for (std::size_t m = 0; m < banks.attention.masks.size(); ++m) {
    EXPECT_EQ(banks.attention.masks[m].dimension_id_N,
              model.banks().attention.masks[m].dimension_id_N);
  }
}

}  // namespace
}  // namespace dfmoa::distributed
