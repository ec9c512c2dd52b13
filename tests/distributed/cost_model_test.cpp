// What is predicted of a step is what its recorder holds afterwards: the same collectives in the
// same order with the same counts, as integers.
#include "distributed/cost_model.h"

#include "src/base/error.h"
#include "tests/distributed/predicted_step.h"
#include "tests/support/systems.h"

namespace dfmoa::distributed {
namespace {

using comm::Record;
using tests::System;

std::vector<Layout> predicted_layouts() {
  std::vector<Layout> all;
  const std::vector<std::pair<int, int>> meshes{{1, 1}, {2, 1}, {2, 2}, {3, 1},
                                                {3, 3}, {4, 1}, {4, 2}, {4, 4}};
  for (const auto& [processes, expert] : meshes) {
    for (const std::string transport : {"replicate", "move_weights", "move_tokens"}) {
      all.push_back({processes, expert, transport, "keep"});
      all.push_back({processes, expert, transport, "recompute", "block"});
      all.push_back({processes, expert, transport, "recompute", "step"});
    }
  }
  return all;
}

TEST(CostModel, predicts_every_collective_of_a_step_on_every_layout) {
  const auto base = small_base();
  auto plan = tests::experts_behind("topk");  // tokens go where their two experts of three are
  plan.adapters["mix"].layers = "1-2";        // a block below everything that is trained
  plan.adapters["side"].kind = "parallel";
  plan.adapters["side"].experts = 1;
  plan.adapters["side"].width = 3;
  plan.adapters["side"].layers = "1-2";
  for (const auto& layout : predicted_layouts()) {
    for (const std::int64_t micro_batches : {1, 3, 4}) {
      SCOPED_TRACE(base::text(layout.name(), " M", micro_batches));
      const auto sent =
          expect_predicted(configured(plan, layout, micro_batches), layout.processes, base);
      EXPECT_EQ(sent > 0, layout.processes > 1);
      if (testing::Test::HasFailure()) return;  // the first one says it all
    }
  }
}

TEST(CostModel, predicts_statistics_that_lag_a_step) {
  const auto base = small_base();
  for (const std::int64_t micro_batches : {1, 4}) {
    const Layout layout{2,           2,       "move_weights",
                        "recompute", "block", {{"train.statistics", "lag_one"}}};
    SCOPED_TRACE(micro_batches);
    (void)expect_predicted(configured(tests::experts_behind("topk"), layout, micro_batches), 2,
                           base);
  }
}

TEST(CostModel, follows_balanced_and_explicit_owners) {
  const auto base = small_base();
  for (const std::string owners : {"balanced", "1,1,0"}) {
    const Layout layout{4, 2, "move_weights", "keep", "auto", {{"parallel.owners", owners}}};
    SCOPED_TRACE(owners);
    (void)expect_predicted(configured(tests::experts_behind("softmax"), layout, 4), 4, base);
  }
}

/// Heads of an odd number of owners, of which one has none; some blocks without gates of heads.
TEST(CostModel, predicts_heads_that_run_at_their_owners) {
  const auto base = small_base();
  for (const auto& system : tests::corrected_systems()) {
    if (!system.plan.dfa.is_on()) continue;
    auto plan = system.plan;
    plan.dfa.layers = "1-2";
    for (auto& [name, gate] : plan.rank_gates) gate.start = 0;
    for (auto layout : {Layout{2, 2, "replicate"}, Layout{4, 2, "move_weights", "recompute"},
                        Layout{3, 3, "move_tokens"}, Layout{4, 4, "replicate", "recompute"}}) {
      layout.more = {{"parallel.heads", "shard"}};
      if (layout.expert == 3) layout.more.emplace_back("parallel.head_owners", "2,0,0,2");
      for (const std::int64_t micro_batches : {1, 3}) {
        SCOPED_TRACE(base::text(system.name, layout.name(), " M", micro_batches));
        (void)expect_predicted(configured(plan, layout, micro_batches), layout.processes, base);
      }
    }
  }
}

/// H 4 in turn on P 2: each process has 2 heads, which read both KV heads: KV' = 4.
TEST(CostModel, heads_travel_as_their_closed_form_says) {
  const auto base = small_base();
  auto plan = tests::attention_gates("softmax", "hard_concrete");
  const Layout layout{2, 2, "replicate", "recompute", "auto", {{"parallel.heads", "shard"}}};
  const auto run = configured(plan, layout, 2);
  const auto cost = train::cost_of(
      run, *base, plan_layout(model::plan_blocks(plan, *base), base->architecture, run.parallel), 2,
      false);
  std::int64_t sent = 0;
  for (const auto& one : cost.traffic) {
    const bool of_heads = one.collective == "C2/heads/send" || one.collective == "C2/heads/back";
    if (of_heads) sent += one.sent_bytes;
  }
  const std::int64_t layers = 3;
  const std::int64_t passes = 2 + 1;  // forward twice, backward once
  EXPECT_EQ(sent, layers * passes * run.train.tokens / 2 * (2 * 4 + 2 * 4) * 4 * 4);
  EXPECT_TRUE(cost.is_estimate);
}

class CostOfSystem : public testing::TestWithParam<System> {};

TEST_P(CostOfSystem, is_predicted_to_the_element) {
  const auto base = model::tiny_base({}, at::kFloat);
  const std::vector<Layout> layouts{{2, 1, "replicate"},
                                    {4, 2, "move_weights"},
                                    {2, 2, "move_weights", "recompute", "block"},
                                    {4, 2, "move_tokens"},
                                    {3, 3, "move_tokens", "recompute", "block"}};
  auto plan = GetParam().plan;
  for (auto& [name, gate] : plan.rank_gates) {
    if (gate.kind != "literal") gate.start = 0;  // noise by document
  }
  for (const auto& layout : layouts) {
    SCOPED_TRACE(layout.name());
    (void)expect_predicted(configured(plan, layout, 3), layout.processes, base);
  }
}

INSTANTIATE_TEST_SUITE_P(Systems, CostOfSystem, testing::ValuesIn(tests::all_systems()),
                         [](const auto& one) { return one.param.name; });

class CostOfRun : public ParallelRun {};

TEST_F(CostOfRun, counts_the_vote_and_is_what_a_run_tells) {
  auto plan = tests::attention_gates("softmax", "hard_concrete");
  const auto mixture = tests::experts_behind("softmax");
  plan.adapters = mixture.adapters;
  plan.routers.insert(mixture.routers.begin(), mixture.routers.end());
  plan.rank_gates["dimensions"].cut = 1.0;  // at the last step, with collectives of its own
  const Layout layout{2, 2, "move_weights", "recompute"};
  const auto run = on(layout, config(plan));
  const auto base = model::load_base_model(run.model, at::kDouble);
  const auto cost = train::cost_of(
      run, *base, plan_layout(model::plan_blocks(plan, *base), base->architecture, run.parallel), 2,
      false);
  train::RunReport report;
  comm::run_local(2, [&](comm::Communicator& comm) {
    const auto mine = train(run, into("run", 2), comm).report;
    if (comm.process() == 0) report = mine;
  });
  EXPECT_EQ(report.cost.steps, 2);
  EXPECT_EQ(report.cost.bytes, 2 * cost.bytes());
  EXPECT_EQ(report.cost.sent_bytes, 2 * cost.sent_bytes());
  EXPECT_GT(report.cost.seconds, 0);
  for (const auto& [step, bytes] : figures("run", "comm/bytes")) {
    EXPECT_EQ(bytes, static_cast<double>(cost.bytes())) << step;
  }
  EXPECT_EQ(figures("run", "comm/sent_bytes").at(2), static_cast<double>(cost.sent_bytes()));
  EXPECT_GT(figures("run", "time/comm_s").at(2), 0);
}

TEST(CostModel, tells_dense_routing_to_the_row_and_top_k_as_an_expectation) {
  const auto base = model::tiny_base({}, at::kFloat);
  const Layout layout{2, 2, "move_tokens"};
  const auto layout_for = [&](const std::string& kind) {
    const auto run = configured(tests::experts_behind(kind), layout, 2);
    return plan_layout(model::plan_blocks(run.plan, *base), base->architecture, run.parallel);
  };
  EXPECT_EQ(share_of_tokens(layout_for("softmax")[0], 0, 1), 1.0);
  EXPECT_EQ(share_of_tokens(layout_for("threshold")[0], 0, 1), 1.0) << "nobody knows before";
  // Of three experts two are chosen: the owner of one has it in 2 of 3 cases, that of two always.
  const auto blocks = layout_for("topk");
  EXPECT_EQ(share_of_tokens(blocks[0], 0, 0), 1.0);
  EXPECT_NEAR(share_of_tokens(blocks[0], 0, 1), 2.0 / 3, 1e-12);
  const auto rows = expected_routing([](int, std::int64_t) { return 30; }, 0, 2)(0, blocks[0], 0);
  EXPECT_EQ(rows.sent, (std::vector<std::int64_t>{30, 20}));
  EXPECT_EQ(rows.received, (std::vector<std::int64_t>{30, 30}));
}

TEST(CostModel, refuses_layouts_that_are_none) {
  ParallelConfig config;
  config.expert = 3;
  EXPECT_THROW((void)spread_of(config, 4, true), base::UsageError);
  EXPECT_THROW((void)spread_of(config, 0, true), base::UsageError);
  EXPECT_EQ(spread_of(config, 6, true).copies(), 2);
  config.gather = "block";
  EXPECT_THROW((void)spread_of(config, 6, true), base::UsageError);
}

TEST(CostModel, sums_traffic_by_purpose) {
  std::vector<PlannedCollective> planned(3);
  planned[0].record = {"C2/layer/3/gather", "all_gather", 10, base::DType::f32};
  planned[0].group = Group::experts;
  planned[2] = planned[1] = planned[0];
  planned[1].record.tag = "C2/layer/4/gather";
  planned[2].record = {"C2/layer/4/tokens/mlp_in/back", "all_to_all", 7, base::DType::f64};
  for (auto& one : planned) one.record.processes = 4;
  const auto traffic = traffic_of(planned);
  ASSERT_EQ(traffic.size(), 2U);
  EXPECT_EQ(traffic[0].collective, "C2/gather");
  EXPECT_EQ(traffic[0].calls, 2);
  EXPECT_EQ(traffic[0].bytes, 80);
  EXPECT_EQ(traffic[0].sent_bytes, 240);
  EXPECT_EQ(traffic[0].messages, 6);
  EXPECT_EQ(traffic[1].collective, "C2/tokens/back");
  EXPECT_EQ(traffic[1].sent_bytes, 56);
}

}  // namespace
}  // namespace dfmoa::distributed
