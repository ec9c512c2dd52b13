// Whole runs: resume is exact, the number of processes does not matter, the rank cut keeps logits.
#include "src/train/trainer.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/train/ini.h"
#include "src/train/schedule.h"
#include "src/train/state.h"
#include "tests/support/small_run.h"

namespace dfmoa::train {
namespace {

class TrainerTest : public SmallRun {
 protected:
  RunConfig config() const {
    return with({{"adapter.main.experts", "3"},
                 {"adapter.main.rank", "2"},
                 {"adapter.main.router", "main"},
                 {"adapter.main.rank_gate", "main"},
                 {"router.main.kind", "softmax"},
                 {"rank.main.budget", "50"},
                 {"train.steps", "10"},
                 {"train.micro_batches", "3"},
                 {"train.tokens", "16"},
                 {"train.learning_rate", "1e-2"},
                 {"train.precision", "fp64"},
                 {"checkpoint.every", "4"}});
  }

  static RunReport train(const RunConfig& run, const RunOptions& options, int processes = 1) {
    RunReport report;
    comm::run_local(processes, [&](comm::Communicator& comm) {
      const auto mine = SmallRun::train(run, options, comm).report;
      if (comm.process() == 0) report = mine;
    });
    return report;
  }

  /// Largest difference of any parameter, relative to the largest of all.
  double distance(const std::string& one, const std::string& two) {
    base::Logger log(false);
    const auto a = open_model(folder_ / one, "", log);
    const auto b = open_model(folder_ / two, "", log);
    double worst = 0;
    double scale = 0;
    for (std::size_t l = 0; l < a.model->blocks().size(); ++l) {
      const auto& x = a.model->blocks()[l].parameters().leaves();
      const auto& y = b.model->blocks()[l].parameters().leaves();
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (x[i].sizes() != y[i].sizes()) return 1e9;
        if (x[i].numel() == 0) continue;
        worst = std::max(worst, (x[i] - y[i]).abs().max().item<double>());
        scale = std::max(scale, y[i].abs().max().item<double>());
      }
    }
    return worst / scale;
  }
};

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

TEST_F(TrainerTest, runs_repeat_bitwise_and_recompute_equals_keep) {
  const auto one = train(config(), into("one"));
  EXPECT_EQ(train(config(), into("two")).parameters_hash, one.parameters_hash);
  auto recompute = config();
  recompute.set("train.memory", "recompute");
  EXPECT_EQ(train(recompute, into("three")).parameters_hash, one.parameters_hash);
  auto seed = config();
  seed.set("train.seed", "2");
  EXPECT_NE(train(seed, into("four")).parameters_hash, one.parameters_hash);
}

TEST_F(TrainerTest, number_of_processes_changes_nothing_but_rounding) {
  auto sgd = config();
  sgd.set("train.optimizer", "sgd");
  (void)train(sgd, into("p1"));
  for (const int processes : {2, 3, 4}) {
    const auto name = "p" + std::to_string(processes);
    (void)train(sgd, into(name), processes);
    EXPECT_LE(distance(name, "p1"), 1e-12) << processes;
  }
  // Saved by 4 processes, continued by 2, then by 1.
  (void)train(sgd, into("mixed", 4), 4);
  (void)train(sgd, into("mixed", 8), 2);
  (void)train(sgd, into("mixed"), 1);
  EXPECT_LE(distance("mixed", "p1"), 1e-12);
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

TEST_F(TrainerTest, a_stop_before_the_first_step_of_a_start_is_an_error) {
  const std::atomic<bool> stop = true;
  for (const int processes : {1, 3}) {
    auto options = into("stop" + std::to_string(processes));
    options.stop = &stop;
    const auto sentence = formats::sentence_of<base::MachineError>(
        [&] { (void)train(config(), options, processes); });
    EXPECT_TRUE(formats::contains(sentence, "asked to stop at step 0")) << sentence;
    EXPECT_FALSE(std::filesystem::exists(options.folder / "checkpoints"));
    options.stop_after = 0;  // nothing was to be done
    EXPECT_EQ(train(config(), options, processes).steps, 0);
  }
}

TEST_F(TrainerTest, router_learns_at_its_own_rate) {
  const auto router_of = [&](const std::string& rate) {
    auto run = config();
    run.set("router.main.init", "normal");
    run.set("router.main.learning_rate", rate);
    (void)train(run, into("rate" + rate, 3));
    base::Logger log(false);
    const auto opened = open_model(folder_ / ("rate" + rate), "", log);
    model::Transformer fresh(model::load_base_model(run.model, at::kDouble));
    fresh.adapt(run.plan, static_cast<std::uint64_t>(run.train.seed));
    const auto& leaf = fresh.blocks()[0].parameters().leaf("router/main");
    return (opened.model->blocks()[0].parameters().leaf("router/main") - leaf)
        .abs()
        .max()
        .item<double>();
  };
  EXPECT_EQ(router_of("0"), 0.0);
  const double slow = router_of("1e-4");
  EXPECT_GT(slow, 0.0);
  EXPECT_LT(slow, 3.1e-4);  // Adam moves by about its rate in each of 3 steps
  EXPECT_GT(router_of("-1"), 3e-3);
}

TEST_F(TrainerTest, rank_cut_meets_the_budget) {
  (void)train(config(), into("cut"));
  base::Logger log(false);
  const auto opened = open_model(folder_ / "cut", "", log);
  const auto rank = count_rank(*opened.model);
  EXPECT_LE(rank.total, 50);
  EXPECT_GT(rank.total, 0);
}

/// Before step 8. It costs nothing where only closed directions go.
TEST_F(TrainerTest, the_cut_tells_the_loss_before_and_after_it) {
  for (const std::string budget : {"50", "100000"}) {
    const auto name = "cut" + budget;
    (void)train(with({{"rank.main.budget", budget}}, config()), into(name), 2);
    const auto before = figures(name, "rank/cut/ce_before");
    const auto after = figures(name, "rank/cut/ce_after");
    ASSERT_EQ(before.size(), 1U);
    ASSERT_TRUE(before.contains(8));
    const bool is_limit = budget == "50";
    EXPECT_GT(figures(name, "rank/cut/directions").at(8), 0);
    const double cost = std::abs(after.at(8) - before.at(8));
    if (is_limit) {
      EXPECT_GT(cost, 1e-6);
    } else {
      EXPECT_LE(cost, 1e-12);
    }
    EXPECT_NEAR(before.at(8), figures(name, "train/ce").at(8), 2.0);
  }
}

/// Whole runs cannot show it: with or without a resume they pass through the same cut.
TEST_F(TrainerTest, rank_cut_keeps_the_moments_of_what_stays) {
  const auto run = config();
  model::Transformer mixed(model::load_base_model(run.model, at::kDouble));
  mixed.adapt(run.plan, 1);
  model::stir(mixed);
  const at::NoGradGuard no_grad;
  for (auto& block : mixed.blocks()) {
    auto& parameters = block.parameters();
    for (std::size_t i = 0; i < parameters.leaves().size(); ++i) {
      parameters.moment1(i).copy_(parameters.leaves()[i] * 2);
      parameters.moment2(i).copy_(parameters.leaves()[i] * 3);
    }
  }
  const auto report = RankBudget(run.plan, 10).cut(mixed);
  EXPECT_EQ(report.after, 50);
  EXPECT_LT(report.after, report.before);
  for (auto& block : mixed.blocks()) {
    auto& parameters = block.parameters();
    for (std::size_t i = 0; i < parameters.leaves().size(); ++i) {
      const auto& name = parameters.specs()[i].name;
      EXPECT_TRUE(at::equal(parameters.moment1(i), parameters.leaves()[i] * 2)) << name;
      EXPECT_TRUE(at::equal(parameters.moment2(i), parameters.leaves()[i] * 3)) << name;
    }
  }
}

TEST_F(TrainerTest, removing_closed_directions_keeps_the_logits) {
  auto run = config();
  model::Transformer mixed(model::load_base_model(run.model, at::kDouble));
  mixed.adapt(run.plan, 1);
  model::stir(mixed);
  const at::NoGradGuard no_grad;
  for (auto& block : mixed.blocks()) {  // every second direction is closed
    auto logit = block.parameters().leaf("attention_in/logit");
    logit.slice(0, 0, std::nullopt, 2).fill_(-5.0);
  }
  const auto rows = mixed.pack_sequences({{3, 4, 5, 6}}, {0});
  const auto before = mixed.hidden(rows);
  RunConfig unlimited = run;
  unlimited.set("rank.main.budget", "0");
  const auto report = RankBudget(unlimited.plan, 10).cut(mixed);
  EXPECT_LT(report.after, report.before);
  EXPECT_TRUE(at::allclose(mixed.hidden(rows), before, 0, 1e-12));
}

TEST(RunConfigTest, a_key_without_its_section_is_refused_with_the_whole_key) {
  RunConfig run;
  const auto known = formats::sentence_of<base::UsageError>([&] { run.set("learning_rate", "1"); });
  EXPECT_TRUE(formats::contains(known, "learning_rate: expected section.key, such as train.l"))
      << known;
  const auto unknown = formats::sentence_of<base::UsageError>([&] { run.set("nonsense", "1"); });
  EXPECT_TRUE(formats::contains(unknown, "nonsense: expected section.key, such as train.steps"))
      << unknown;
}

TEST(RunConfigTest, a_section_that_no_adapter_names_is_refused_with_the_nearest) {
  RunConfig run;
  run.set("adapter.main.router", "main");
  run.set("router.main.kind", "softmax");
  run.validate();
  run.set("router.mian.kind", "topk");
  const auto router = formats::sentence_of<base::UsageError>([&] { run.validate(); });
  EXPECT_TRUE(formats::contains(router,
                                "[router.mian]: no adapter names it; the nearest that one "
                                "names is [router.main]"))
      << router;
  RunConfig bare;
  bare.set("adapter.main.rank", "4");
  bare.set("rank.main.budget", "9");
  const auto rank = formats::sentence_of<base::UsageError>([&] { bare.validate(); });
  EXPECT_TRUE(formats::contains(rank,
                                "[rank.main]: no adapter names it; "
                                "adapter.NAME.rank_gate = main would"))
      << rank;
}

TEST(RunConfigTest, ini_reads_back_what_it_prints_and_names_the_nearest_key) {
  RunConfig run;
  run.set("adapter.main.rank", "4");
  run.set("router.main.scope", "span");
  run.set("data.span", "^<bos>(.)");
  RunConfig again;
  read_ini_text(run.ini(), "test.ini", again);
  EXPECT_EQ(again.ini(), run.ini());
  const auto sentence =
      formats::sentence_of<base::UsageError>([&] { run.set("trian.steps", "1"); });
  EXPECT_TRUE(formats::contains(sentence, "[train]")) << sentence;
}

TEST(ScheduleTest, warms_up_linearly_and_ends_at_the_final_share) {
  TrainConfig train;
  train.steps = 100;
  train.warmup = 10;
  train.final_rate = 0.1;
  EXPECT_DOUBLE_EQ(rate_share(train, 0), 0.1);
  EXPECT_DOUBLE_EQ(rate_share(train, 9), 1.0);
  EXPECT_NEAR(rate_share(train, 100), 0.1, 1e-12);
  train.schedule = "constant";
  EXPECT_DOUBLE_EQ(rate_share(train, 99), 1.0);
}

TEST(RankBudgetTest, more_than_one_rank_section_and_an_early_cut_are_refused) {
  RunConfig run;
  run.set("adapter.a.rank_gate", "one");
  run.set("adapter.b.rank_gate", "two");
  run.set("rank.one.budget", "1");
  run.set("rank.two.budget", "1");
  EXPECT_THROW(RankBudget(run.plan, 10), base::UsageError);
  run.set("adapter.b.rank_gate", "one");
  run.set("rank.one.cut", "0.05");
  EXPECT_THROW(RankBudget(run.plan, 10), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::train
