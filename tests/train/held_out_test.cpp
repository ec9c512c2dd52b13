// Evaluation while training: the figures of `evaluate` for any number of processes, and the best
// checkpoint stays.
#include "src/train/held_out.h"

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/train/evaluate.h"
#include "src/train/trainer.h"
#include "tests/support/small_run.h"

namespace dfmoa::train {
namespace {

using formats::contains;
using formats::sentence_of;

class HeldOutTest : public SmallRun {
 protected:
  void SetUp() override {
    SmallRun::SetUp();
    file_ = write("held_out.jsonl", R"({"prompt": "xyz the", "completion": "kk", "task": "a"}
{"prompt": "uvw", "completion": "zyxw", "task": "b"}
{"prompt": "mmmmmm", "completion": "n", "task": "a"}
{"prompt": "ok", "completion": "the end", "task": "b"}
)");
  }

  model::Transformer mixture() {
    model::Transformer mixed(model::load_tiny_model(folder_, at::kDouble));
    mixed.adapt(model::tiny_plan("token"), 3);
    model::stir(mixed);
    return mixed;
  }

  RunConfig config(const std::string& rate) const {
    auto run = with({{"data.eval", file_},
                     {"adapter.main.experts", "2"},
                     {"adapter.main.rank", "2"},
                     {"train.steps", "6"},
                     {"train.micro_batches", "1"},
                     {"train.tokens", "16"},
                     {"train.learning_rate", rate},
                     {"train.warmup", "0"},
                     {"train.schedule", "constant"},
                     {"train.evaluate_every", "1"},
                     {"checkpoint.every", "1"},
                     {"checkpoint.keep_last", "1"},
                     {"checkpoint.keep_best", "true"}});
    run.validate();
    return run;
  }

  void train_until(const RunConfig& run, std::int64_t stop_after) {
    auto options = into("run", stop_after);
    options.allow_change = {"train.learning_rate"};
    EXPECT_EQ(train_alone(run, options).report.steps, stop_after);
  }

  std::string file_;
};

TEST_F(HeldOutTest, equals_evaluate_for_any_number_of_processes) {
  const auto mixed = mixture();
  const auto samples = reader({});
  const auto expected = evaluate(mixed, tokenizer(), samples, {file_}, {});
  for (const int processes : {1, 2, 3, 5}) {
    comm::run_local(processes, [&](comm::Communicator& comm) {
      const auto found = evaluate_held_out(mixed, samples, {file_}, 12, comm);
      EXPECT_NEAR(found.ce, expected.total.ce, 1e-12) << processes;
      ASSERT_EQ(found.ce_of_task.size(), 2U);
      for (const auto& [task, ce] : found.ce_of_task) {
        EXPECT_NEAR(ce, expected.tasks.at(task).ce, 1e-12) << task;
      }
    });
  }
}

TEST_F(HeldOutTest, cross_entropy_of_a_step_is_that_of_its_rows_for_any_number_of_processes) {
  const auto mixed = mixture();
  const auto samples = reader({});
  std::vector<data::PackedRow> rows;
  data::for_each_row({file_}, samples, 12,
                     [&](const data::PackedRow& row, const auto&) { rows.push_back(row); });
  ASSERT_GT(rows.size(), 1U);
  const auto expected = evaluate(mixed, tokenizer(), samples, {file_}, {}).total.ce;
  for (const int processes : {1, 2, 3, 5}) {
    comm::run_local(processes, [&](comm::Communicator& comm) {
      EXPECT_NEAR(cross_entropy(mixed, rows, comm, "cut").value(), expected, 1e-12) << processes;
      EXPECT_EQ(cross_entropy(mixed, {}, comm, "cut"), std::nullopt);
    });
  }
}

/// Without learning all losses are equal: the first is the best for ever.
TEST_F(HeldOutTest, the_best_checkpoint_stays_also_across_a_resume) {
  train_until(config("0"), 3);
  train_until(config("0"), 6);
  EXPECT_EQ(checkpoints::steps_in(folder_ / "run" / "checkpoints"),
            (std::vector<std::int64_t>{1, 6}));
}

TEST_F(HeldOutTest, the_best_is_the_one_of_the_lowest_loss) {
  train_until(config("1e-2"), 6);
  const auto found = figures("run", "eval/loss");
  ASSERT_EQ(found.size(), 6U);
  const auto best = std::min_element(
      found.begin(), found.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  EXPECT_LT(best->second, found.at(1)) << "this run should learn";
  std::vector<std::int64_t> kept{best->first};
  if (best->first != 6) kept.push_back(6);
  EXPECT_EQ(checkpoints::steps_in(folder_ / "run" / "checkpoints"), kept);
}

TEST_F(HeldOutTest, keys_that_need_others_are_named) {
  auto run = config("1e-3");
  run.data.eval.clear();
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { run.validate(); }), "data.eval"));
  run = config("1e-3");
  run.train.evaluate_every = 4;
  run.checkpoint.every = 6;
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { run.validate(); }),
                       "checkpoint.every is 6, expected a multiple"));
  run.train.evaluate_every = 0;
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { run.validate(); }), "keep_best"));
}

}  // namespace
}  // namespace dfmoa::train
