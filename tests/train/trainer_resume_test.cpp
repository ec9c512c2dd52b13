// How a run begins: exactly where it stopped, or with a sentence about what does not fit.
#include <gtest/gtest.h>

#include "tests/train/trainer_run.h"

namespace dfmoa::train {
namespace {

TEST_F(TrainerTest, resume_before_and_after_the_rank_cut_is_bitwise) {
  const auto straight = train(config(), into("straight"));
  for (const std::int64_t stop : {3, 6, 8}) {  // the cut comes at step 7
    const auto name = "halved" + std::to_string(stop);
    const auto first = train(config(), into(name, stop));
    EXPECT_EQ(first.steps, stop);
    EXPECT_NE(first.parameters_hash, straight.parameters_hash);
    const auto second = train(config(), into(name));
    EXPECT_EQ(second.parameters_hash, straight.parameters_hash) << stop;
    EXPECT_EQ(second.tokens_seen, straight.tokens_seen);
  }
}

TEST_F(TrainerTest, lag_one_trains_and_resumes_bitwise) {
  auto lagged = config();
  lagged.set("train.statistics", "lag_one");
  const auto straight = train(lagged, into("lag"));
  (void)train(lagged, into("lag2", 5));
  EXPECT_EQ(train(lagged, into("lag2")).parameters_hash, straight.parameters_hash);
}

TEST_F(TrainerTest, changed_configuration_and_base_are_refused_by_name) {
  (void)train(config(), into("run", 2));
  auto changed = config();
  changed.set("train.learning_rate", "2e-2");
  try {
    (void)train(changed, into("run"));
    FAIL() << "a changed learning rate was accepted";
  } catch (const std::exception& error) {
    EXPECT_TRUE(formats::contains(base::describe(error), "train.learning_rate: 0.01 -> 0.02"));
    EXPECT_EQ(base::exit_code(error), base::ExitCode::content);
  }
  auto options = into("run", 3);
  options.allow_change = {"train.learning_rate"};
  EXPECT_EQ(train(changed, options).steps, 3);
  model::write_tiny_model(folder_, {}, 9);
  EXPECT_THROW((void)train(config(), into("run")), std::exception);
}

TEST_F(TrainerTest, another_order_of_sums_is_refused_where_bits_are_asked_for) {
  const auto strict = with({{"checkpoint.require_bitwise", "true"}}, config());
  (void)train_alone(strict, into("strict", 2));
  EXPECT_EQ(train_alone(strict, into("strict", 3)).report.steps, 3);
  const auto expect_refusal = [&](const RunConfig& run, int processes, const std::string& said) {
    try {
      (void)(processes > 1 ? train(run, into("strict"), processes)
                           : train_alone(run, into("strict")).report);
      ADD_FAILURE() << said << " was accepted";
    } catch (const std::exception& error) {  // with its context around it
      EXPECT_EQ(base::exit_code(error), base::ExitCode::content);
      EXPECT_TRUE(formats::contains(base::describe(error), said)) << base::describe(error);
    }
  };
  expect_refusal(strict, 2, "now there are processes 2");
  expect_refusal(with({{"train.memory", "recompute"}}, strict), 1, "now there are processes 1");
  const auto threads = at::get_num_threads();
  at::set_num_threads(threads + 1);
  expect_refusal(strict, 1, base::text("threads ", threads + 1));
  at::set_num_threads(threads);
  EXPECT_EQ(train_alone(strict, into("strict", 4)).report.steps, 4);
}

TEST_F(TrainerTest, fresh_run_into_a_used_folder_is_refused_and_changes_nothing) {
  const auto first = train(config(), into("used", 2, "none"));
  const auto sentence = formats::sentence_of<base::UsageError>(
      [&] { (void)train(config(), into("used", 4, "none")); });
  EXPECT_TRUE(formats::contains(sentence, "already holds a run")) << sentence;
  EXPECT_EQ(train(config(), into("used", 2)).parameters_hash, first.parameters_hash);
}

TEST_F(TrainerTest, any_number_of_processes_makes_a_run_or_goes_on_with_it) {
  auto sgd = config();
  sgd.set("train.optimizer", "sgd");
  (void)train(sgd, into("p1"));
  for (const int processes : {2, 3, 4}) {
    const auto name = base::text("straight", processes);
    (void)train(sgd, into(name), processes);
    EXPECT_LE(distance(name, "p1"), 1e-12) << processes;
  }
  (void)train(sgd, into("p4", 4), 4);
  for (const int processes : {1, 2, 3}) {
    const auto name = base::text("to", processes);
    std::filesystem::copy(folder_ / "p4", folder_ / name, std::filesystem::copy_options::recursive);
    (void)train(sgd, into(name, 8), processes);
    (void)train(sgd, into(name), 1);
    EXPECT_LE(distance(name, "p1"), 1e-12) << processes;
  }
}

/// `auto` would go on from the later step: two lines of steps must not share a folder.
TEST_F(TrainerTest, going_back_to_an_earlier_step_needs_another_folder) {
  const auto whole = train(config(), into("whole"));  // saves steps 4, 8 and 10
  const auto step_4 = (folder_ / "whole/checkpoints/step_00000004").string();
  const auto later = formats::sentence_of<base::UsageError>(
      [&] { (void)train(config(), into("whole", -1, step_4)); });
  EXPECT_TRUE(formats::contains(later, "step_00000010), later than step 4")) << later;
  EXPECT_EQ(steps_of("whole"), (std::vector<std::int64_t>{4, 8, 10}));
  EXPECT_EQ(train(config(), into("branch", -1, step_4)).parameters_hash, whole.parameters_hash);
  const auto foreign = formats::sentence_of<base::UsageError>(
      [&] { (void)train(config(), into("branch", -1, step_4)); });
  EXPECT_TRUE(formats::contains(foreign, "is of another")) << foreign;
}

/// Of a run that ended without keep_best the best checkpoint may be gone.
TEST_F(TrainerTest, a_best_checkpoint_that_is_gone_is_best_no_longer) {
  write("held_out.jsonl", "{\"prompt\": \"q\", \"completion\": \"zz\"}\n");  // never trained
  auto run = with({{"data.eval", (folder_ / "held_out.jsonl").string()},
                   {"train.steps", "100"},
                   {"train.schedule", "constant"},
                   {"train.evaluate_every", "4"},
                   {"checkpoint.keep_last", "1"}},
                  config());
  (void)train(run, into("best", 12));
  const auto losses = figures("best", "eval/loss");
  ASSERT_LT(losses.at(4), losses.at(12)) << "the best was to come early";
  ASSERT_EQ(steps_of("best"), (std::vector<std::int64_t>{12}));
  run.set("checkpoint.keep_best", "true");
  (void)train(run, into("best", 24));
  std::int64_t best = 16;
  for (const auto& [step, loss] : figures("best", "eval/loss")) {
    if (step > 12 && loss < figures("best", "eval/loss").at(best)) best = step;
  }
  ASSERT_LT(best, 24);
  EXPECT_EQ(steps_of("best"), (std::vector<std::int64_t>{best, 24}));
}

TEST_F(TrainerTest, the_rank_is_cut_once_whatever_becomes_of_the_schedule) {
  const auto run = [&](const std::string& steps) {
    return with({{"train.steps", steps}, {"checkpoint.every", "0"}}, config());
  };
  const auto allowing = [&](const std::string& name, std::int64_t stop = -1) {
    auto options = into(name, stop);
    options.allow_change = {"train.steps"};
    return options;
  };
  (void)train(run("12"), into("shorter", 6));
  (void)train(run("8"), allowing("shorter"));  // the cut of 8 steps would have been before step 6
  EXPECT_EQ(figures("shorter", "rank/cut/directions").size(), 1U);
  EXPECT_EQ(figures("shorter", "rank/model/total").at(8), 50);
  (void)train(run("10"), into("longer"));
  (void)train(run("20"), allowing("longer"));
  EXPECT_EQ(figures("longer", "rank/cut/directions").size(), 1U);
  const auto last = with({{"rank.main.cut", "1"}}, run("6"));
  (void)train(last, into("last"));
  EXPECT_EQ(figures("last", "rank/model/total").at(6), 50);
}

TEST_F(TrainerTest, a_run_that_has_ended_tells_its_last_loss_again) {
  const auto first = train(config(), into("ended"));
  const auto again = train(config(), into("ended"));
  EXPECT_EQ(again.steps, 10);
  EXPECT_EQ(again.ce, first.ce);
  EXPECT_TRUE(std::isnan(again.tokens_per_s)) << "it made no step";
}

TEST_F(TrainerTest, where_things_lie_may_change) {
  (void)train(config(), into("moved", 2));
  std::filesystem::create_directories(folder_ / "indexes");
  const auto elsewhere = with({{"data.index_dir", (folder_ / "indexes").string()}}, config());
  EXPECT_EQ(train(elsewhere, into("moved", 3)).steps, 3);
}

}  // namespace
}  // namespace dfmoa::train
