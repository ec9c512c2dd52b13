// What is predicted of a step is what its recorder holds afterwards: the same collectives in the
// same order with the same counts, as integers.
#include "distributed/cost_model.h"

#include "src/base/error.h"
#include "src/model/adapt.h"
#include "src/model/gate_record.h"
#include "src/train/rank_budget.h"
#include "src/train/state.h"
#include "src/train/step.h"
#include "src/train/step_cost.h"
#include "tests/distributed/parallel_run.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::distributed {
namespace {

using comm::Record;
using tests::System;

std::shared_ptr<const model::BaseModel> small_base() {
  model::TinyShape shape;
  shape.layers = 3;
  return model::tiny_base(shape, at::kFloat);
}

train::RunConfig configured(const model::AdapterPlan& plan, const Layout& layout,
                            std::int64_t micro_batches) {
  train::RunConfig run;
  run.plan = plan;
  run.set("parallel.expert", std::to_string(layout.expert));
  run.set("parallel.transport", layout.transport);
  run.set("parallel.gather", layout.gather);
  run.set("train.memory", layout.memory);
  run.set("train.micro_batches", std::to_string(micro_batches));
  for (const auto& [key, value] : layout.more) run.set(key, value);
  return run;
}

/// Rows of different lengths; the second holds no loss on some documents.
std::vector<data::PackedRow> rows_of(std::int64_t micro_batches) {
  std::vector<data::PackedRow> rows;
  for (std::int64_t m = 0; m < micro_batches; ++m) {
    rows.push_back(model::tiny_row({5 + m, 3}, static_cast<std::uint64_t>(m + 1)));
  }
  return rows;
}

/// What process `process` records in one step that is carried out.
class RealStep {
 public:
  RealStep(const train::RunConfig& run, std::shared_ptr<const model::BaseModel> base)
      : run_(run), base_(std::move(base)) {}

  std::vector<std::vector<Record>> records(int processes) const {
    std::vector<std::vector<Record>> all(static_cast<std::size_t>(processes));
    const auto rows = rows_of(run_.train.micro_batches);
    comm::run_local(processes, [&](comm::Communicator& comm) {
      model::Transformer model(base_);
      const bool keeps = run_.train.memory == "keep";
      ExpertTransport transport(model, comm, run_.parallel, keeps);
      transport.adapt(run_.plan, 1);
      auto entropy = train::make_entropy(model);
      train::Step step(model, entropy, transport, {keeps, run_.train.statistics == "lag_one"});
      const train::RankBudget budget(run_.plan, run_.train.steps);
      const train::RankBudget dimensions(run_.plan, run_.train.steps, train::RankOwner::dimensions);
      comm.recorder().clear();
      (void)step.run(rows, {1, 0, budget.phase(0), dimensions.phase(0)}, {});
      all[static_cast<std::size_t>(comm.process())] = comm.recorder().records();
    });
    return all;
  }

 private:
  const train::RunConfig& run_;
  std::shared_ptr<const model::BaseModel> base_;
};

/// The tokens of every micro-batch that have a gate for an expert of each owner, counted from the
/// gates of one process that holds the whole model.
class Histogram {
 public:
  Histogram(const train::RunConfig& run, const std::shared_ptr<const model::BaseModel>& base,
            const std::vector<BlockLayout>& blocks)
      : expert_(static_cast<int>(run.parallel.expert)) {
    model::Transformer model(base);
    model.adapt(run.plan, 1);
    for (const auto& row : rows_of(run.train.micro_batches)) {
      const auto packed = model.pack(row);
      model::GateRecord record(model);
      (void)model.hidden(packed, nullptr, &record);
      auto& counts = counts_.emplace_back();
      for (std::int64_t layer = 0; layer < static_cast<std::int64_t>(blocks.size()); ++layer) {
        for (int group = 0; group < 4; ++group) {
          for (int place = 0; place < expert_; ++place) {
            counts[{layer, group, place}] = count(
                blocks[static_cast<std::size_t>(layer)], group, place, packed,
                gates_of(blocks[static_cast<std::size_t>(layer)], layer, group, packed, record));
          }
        }
      }
    }
  }

  [[nodiscard]] Routing of(int process, int processes,
                           const std::vector<BlockLayout>& blocks) const {
    return [=, this, &blocks](std::int64_t slot, const BlockLayout& block, int group) {
      const auto layer = static_cast<std::int64_t>(&block - blocks.data());
      const int place = process % expert_;
      RoutedRows rows;
      for (int other = 0; other < expert_; ++other) {
        const auto at = [&](int who, int owner) -> std::int64_t {
          const auto m = static_cast<std::size_t>(slot * processes + process - place + who);
          return m < counts_.size() ? counts_[m].at({layer, group, owner}) : 0;
        };
        rows.sent.push_back(at(place, other));
        rows.received.push_back(at(other, place));
      }
      return rows;
    };
  }

 private:
  static at::Tensor gates_of(const BlockLayout& block, std::int64_t layer, int group,
                             const model::PackedRows& packed, const model::GateRecord& record) {
    std::vector<at::Tensor> columns;
    if (packed.copies && block.whole.copies > 0) columns.push_back(packed.copies->gate_TE);
    for (const auto& entry : record.entries()) {
      const auto& router = *entry.router;
      const bool serves = router.group < 0 || router.group == group;
      if (entry.layer != layer || !serves || router.of_heads) continue;
      if (!router.config.mixes_logits()) columns.push_back(entry.w_TE);
    }
    if (columns.empty()) return {};
    if (block.whole.has_ungated) columns.push_back(at::ones({columns[0].size(0), 1}));
    for (auto& column : columns) column = column.to(at::kDouble);
    return at::cat(columns, 1);
  }

  static std::int64_t count(const BlockLayout& block, int group, int place,
                            const model::PackedRows& packed, const at::Tensor& gate_TG) {
    const auto tokens = packed.token_T.size(0);
    auto any_T = at::zeros({tokens}, at::kBool);
    for (const auto& site : block.whole.groups[static_cast<std::size_t>(group)].sites) {
      for (std::int64_t e = 0; e < site.experts(); ++e) {
        if (site.rank_E[static_cast<std::size_t>(e)] == 0) continue;
        if (block.owners.units.at(unit_name(site, e)) != place) continue;
        any_T = gate_TG.defined() ? any_T.logical_or(gate_TG.select(1, site.column + e) != 0)
                                  : at::ones({tokens}, at::kBool);
      }
    }
    return any_T.sum().item<std::int64_t>();
  }

  int expert_;
  std::vector<std::map<std::tuple<std::int64_t, int, int>, std::int64_t>> counts_;
};

/// Tokens of all processes of a copy, and documents of one, in every slot.
RowsOfSlot rows_known(std::int64_t micro_batches, int process, const Spread& spread) {
  return [=](std::int64_t slot) {
    PeerRows rows;
    const auto rows_of_all = rows_of(micro_batches);
    const int place = process % spread.expert;
    for (int other = 0; other < spread.expert; ++other) {
      const auto m = slot * spread.processes + process - place + other;
      const bool has_row = m < micro_batches;
      const auto& row = rows_of_all[static_cast<std::size_t>(has_row ? m : 0)];
      rows.tokens_P.push_back(has_row ? row.tokens() : 0);
      if (other == place) rows.documents = has_row ? row.documents() : 0;
    }
    return rows;
  };
}

std::string words_of(const std::vector<Record>& records) {
  std::string all;
  for (const auto& record : records) {
    all += base::text("  ", comm::describe(record), " over ", record.processes, ", kept ",
                      record.kept_elements, "\n");
  }
  return all;
}

/// Compares with a step on every process; -> bytes that were sent.
std::int64_t expect_predicted(const train::RunConfig& run, int processes,
                              const std::shared_ptr<const model::BaseModel>& base) {
  const auto form = train::step_form(run, processes, 0);
  const auto blocks =
      plan_layout(model::plan_blocks(run.plan, *base), base->architecture, run.parallel);
  const bool counts_tokens = form.spread.transport == Transport::move_tokens;
  const std::optional<Histogram> histogram =
      counts_tokens ? std::optional<Histogram>(std::in_place, run, base, blocks) : std::nullopt;
  const auto real = RealStep(run, base).records(processes);
  std::int64_t sent = 0;
  for (int process = 0; process < processes; ++process) {
    const auto routing = histogram ? histogram->of(process, processes, blocks) : Routing();
    std::vector<Record> predicted;
    const auto rows = rows_known(run.train.micro_batches, process, form.spread);
    for (auto& one : collectives_of_step(blocks, form, process, routing, rows)) {
      if (one.record.tag != "C3") predicted.push_back(std::move(one.record));
    }
    const auto& records = real[static_cast<std::size_t>(process)];
    EXPECT_EQ(words_of(predicted), words_of(records)) << "process " << process;
    for (std::size_t i = 0; i < std::min(records.size(), predicted.size()); ++i) {
      EXPECT_EQ(predicted[i].bytes(), records[i].bytes());
      EXPECT_EQ(predicted[i].sent_bytes(), records[i].sent_bytes());
      sent += records[i].sent_bytes();
    }
  }
  return sent;
}

std::vector<Layout> every_layout() {
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
  for (const auto& layout : every_layout()) {
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
