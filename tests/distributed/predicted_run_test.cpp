// What is predicted of a step is what a run records in it, the vote and what follows included: at
// its begin, and where it goes on.
#include "tests/distributed/predicted_step.h"
#include "tests/support/systems.h"

namespace dfmoa::distributed {
namespace {

using Records = std::vector<comm::Record>;

/// One start of a run that made one step.
struct OneStep {
  std::int64_t step = 0;  ///< that the run had made before
  std::vector<BlockLayout> blocks;
  std::vector<data::PackedRow> rows;
  train::StepCost cost;          ///< predicted where the run stood
  train::StepCost cost_unasked;  ///< without telling at which step
  std::vector<Records> records;  ///< C0 and after, by process
};

class PredictedRun : public ParallelRun {
 protected:
  [[nodiscard]] static std::shared_ptr<const model::BaseModel> base_of(
      const train::RunConfig& run) {
    return model::load_base_model(run.model, train::compute_type(run.train));
  }

  /// Goes on with a run of this name by one step, or begins it.
  [[nodiscard]] OneStep one_step(const Layout& layout, const train::RunConfig& run,
                                 const std::string& name) const {
    std::vector<OneStep> of_process(static_cast<std::size_t>(layout.processes));
    comm::run_local(layout.processes, [&](comm::Communicator& comm) {
      of_process[static_cast<std::size_t>(comm.process())] =
          step_of(on(layout, run), into(name), comm);
    });
    auto all = of_process[0];
    for (std::size_t p = 1; p < of_process.size(); ++p) {
      all.records.push_back(std::move(of_process[p].records[0]));
    }
    return all;
  }

  /// Until after step `stop_after`.
  void train_until(const Layout& layout, const train::RunConfig& run, const std::string& name,
                   std::int64_t stop_after) const {
    (void)go_on(layout, run, name, stop_after);
  }

 private:
  [[nodiscard]] static OneStep step_of(const train::RunConfig& run, train::RunOptions options,
                                       comm::Communicator& comm) {
    std::filesystem::create_directories(options.folder);
    base::Logger log(false);
    const auto base = base_of(run);
    model::Transformer model(base);
    ExpertTransport transport(model, comm, run.parallel, run.train.memory == "keep");
    transport.adapt(run.plan, 1);
    const auto tokenizer = data::Tokenizer::from_directory(run.model.path);
    const data::SampleReader reader(run.data, tokenizer, run.model.path);
    const data::LoaderShape shape{run.train.micro_batches, run.train.tokens, run.train.documents,
                                  base->architecture.max_positions};
    data::Loader loader(run.data, shape, reader, static_cast<std::uint64_t>(run.train.seed));
    train::Trainer trainer(run, model, loader, transport, log);
    trainer.begin(options);
    data::Loader ahead(run.data, shape, reader, static_cast<std::uint64_t>(run.train.seed));
    ahead.seek(loader.cursor());
    const auto blocks = layout_of(model, transport);
    OneStep one{trainer.step(), blocks, ahead.next_step(), {}, {}, std::vector<Records>(1)};
    one.cost = train::cost_of(run, *base, blocks, comm.num_processes(), false, one.step);
    one.cost_unasked = train::cost_of(run, *base, blocks, comm.num_processes(), false);
    comm.recorder().clear();
    options.stop_after = one.step + 1;
    (void)trainer.run(options);
    const auto& records = comm.recorder().records();
    const auto begin = std::find_if(records.begin(), records.end(),
                                    [](const auto& record) { return record.tag == "C0"; });
    const auto end =
        std::find_if(begin, records.end(), [](const auto& record) { return record.tag[0] != 'C'; });
    one.records[0] = Records(begin, end);
    return one;
  }
};

/// By purpose, how often.
std::map<std::string, std::int64_t> calls_of(const std::vector<Traffic>& traffic) {
  std::map<std::string, std::int64_t> calls;
  for (const auto& one : traffic) calls[one.collective] = one.calls;
  return calls;
}

std::map<std::string, std::int64_t> calls_of(const Records& records) {
  std::vector<PlannedCollective> all;
  for (const auto& record : records) all.push_back({record, Group::world});
  return calls_of(traffic_of(all));
}

/// Every collective of every process, to the element.
void expect_recorded(const OneStep& one, const train::RunConfig& run,
                     const std::shared_ptr<const model::BaseModel>& base) {
  const auto processes = static_cast<int>(one.records.size());
  const auto form = train::step_form(run, processes, one.step);
  const auto predicted = predicted_records(run, form, one.blocks, base, one.rows);
  for (std::size_t process = 0; process < one.records.size(); ++process) {
    EXPECT_EQ(words_of(predicted[process]), words_of(one.records[process]))
        << "process " << process;
  }
  EXPECT_EQ(calls_of(one.cost.traffic), calls_of(one.records[0])) << "what a run tells";
}

/// Free gates of directions, and of dimensions, each with a budget.
model::AdapterPlan free_gates(double start, double cut) {
  auto plan = tests::attention_gates("softmax", "proximal");
  const auto mixture = tests::experts_behind("softmax");
  plan.adapters = mixture.adapters;
  plan.routers.insert(mixture.routers.begin(), mixture.routers.end());
  plan.adapters["mix"].rank_gate = "gate";
  plan.rank_gates["gate"].kind = "proximal";
  for (auto& [name, gate] : plan.rank_gates) {
    gate.start = start;
    gate.cut = cut;
    gate.budget = 20;
  }
  return plan;
}

TEST_F(PredictedRun, budgets_of_free_gates_compare_them_after_the_vote) {
  const auto run = config(free_gates(0, 1));
  for (const auto& layout :
       {Layout{2, 1}, Layout{2, 2, "move_weights", "recompute", "block"},
        Layout{4, 2, "move_weights", "keep", "step"}, Layout{3, 3, "move_tokens", "recompute"},
        Layout{4, 2, "move_tokens"}, Layout{2, 1, "move_tokens"}}) {
    SCOPED_TRACE(layout.name());
    const auto spread = on(layout, run);
    const auto one = one_step(layout, run, layout.name());
    expect_recorded(one, spread, base_of(run));
    const bool is_sharded = layout.transport != "replicate";
    EXPECT_EQ(calls_of(one.records[0])["C3/proximal"], is_sharded ? 4 : 0);
    if (one.cost.is_estimate) continue;
    std::int64_t bytes = 0;
    for (const auto& record : one.records[0]) bytes += record.bytes();
    EXPECT_EQ(one.cost.bytes(), bytes);
  }
}

/// Three experts of rank 2 in 7 linears of 2 blocks have 84 gates; two of the experts lie with one
/// of the two processes, and the message is as long as what it tells.
TEST_F(PredictedRun, as_many_gates_travel_as_the_fullest_process_holds) {
  const Layout layout{2, 2, "move_tokens", "keep", "auto", {{"parallel.owners", "1,1,0"}}};
  auto plan = free_gates(0, 1);
  plan.dfa = {};
  plan.rank_gates.erase("dimensions");
  plan.routers.erase("heads");
  const auto run = config(plan);
  const auto one = one_step(layout, run, "fullest");
  expect_recorded(one, on(layout, run), base_of(run));
  const auto& records = one.records[0];
  ASSERT_GE(records.size(), 2U);
  EXPECT_EQ(records[records.size() - 2].op, "all_reduce");
  EXPECT_EQ(records[records.size() - 1].op, "all_gather");
  EXPECT_EQ(records[records.size() - 1].elements, 2 * 2 * 2 * 7);
}

TEST_F(PredictedRun, gates_are_not_compared_before_the_start_nor_after_the_cut) {
  const auto run = config(free_gates(0.4, 0.7), {{"train.steps", "5"}});  // steps 2 and 3
  const Layout layout{2, 2, "move_weights", "recompute", "block"};
  const auto compared = [&](const std::string& name, std::int64_t done) {
    if (done > 0) train_until(layout, run, name, done);
    const auto one = one_step(layout, run, name);
    EXPECT_EQ(one.step, done);
    const auto planned = calls_of(one.cost.traffic);
    EXPECT_EQ(planned.contains("C3/proximal"), done < 3) << "as in most steps until the cut";
    auto calls = calls_of(one.records[0]);
    return calls["C3/proximal"];
  };
  EXPECT_EQ(compared("before", 0), 0);
  EXPECT_EQ(compared("inside", 2), 4);
  EXPECT_EQ(compared("after", 4), 0);
}

/// Noise by document ends with the cut: documents are not told any more.
TEST_F(PredictedRun, goes_on_after_the_cut_as_predicted) {
  auto plan = tests::experts_behind("softmax");
  plan.adapters["mix"].rank_gate = "gate";
  plan.rank_gates["gate"].start = 0;
  plan.rank_gates["gate"].cut = 0.5;         // before step 3 of 6
  for (const double budget : {20.0, 0.0}) {  // 0: the cut finds nothing to remove
    plan.rank_gates["gate"].budget = budget;
    const auto run = config(plan, {{"train.steps", "6"}, {"train.learning_rate", "0"}});
    for (const auto& layout : {Layout{2, 2, "move_tokens", "recompute"},
                               Layout{4, 2, "move_weights", "recompute", "block"}}) {
      for (const std::int64_t done : {2, 4}) {
        const auto name = base::text(layout.name(), "budget", budget, "step", done);
        SCOPED_TRACE(name);
        train_until(layout, run, name, done);
        const auto one = one_step(layout, run, name);
        ASSERT_EQ(one.step, done);
        expect_recorded(one, on(layout, run), base_of(run));
        const bool tells = layout.transport == "move_tokens" && done < 3;
        EXPECT_EQ(calls_of(one.records[0]).contains("C2/tokens/documents"), tells);
        if (budget > 0) {  // what is gone says it, too
          EXPECT_EQ(calls_of(one.cost_unasked.traffic), calls_of(one.records[0]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace dfmoa::distributed
