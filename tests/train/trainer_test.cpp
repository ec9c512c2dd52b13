// Whole runs: they repeat, the number of processes does not matter, the rank cut keeps logits.
#include "src/train/trainer.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/train/state.h"
#include "tests/support/lone_transport.h"
#include "tests/train/trainer_run.h"

namespace dfmoa::train {
namespace {

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

TEST_F(TrainerTest, fifty_steps_repeat_bitwise_on_any_number_of_processes) {
  const auto run = with({{"train.steps", "50"}, {"checkpoint.every", "0"}}, config());
  for (const int processes : {1, 3}) {
    const auto name = "fifty" + std::to_string(processes);
    const auto first = train(run, into(name), processes);
    EXPECT_EQ(first.steps, 50);
    EXPECT_EQ(train(run, into(name + "again"), processes).parameters_hash, first.parameters_hash);
  }
}

/// Everything that is summed over a step is on: dual and balance, rank penalty and cut, clipping.
TEST_F(TrainerTest, number_of_processes_changes_nothing_but_rounding) {
  const Keys topk{{"router.main.kind", "topk"},
                  {"router.main.top_k", "2"},
                  {"router.main.balance", "switch"},
                  {"router.main.balance_weight", "0.3"}};
  const auto all_on = with({{"rank.main.start", "0"},
                            {"rank.main.cut", "0.2"},
                            {"train.clip", "0.5"},
                            {"train.weight_decay", "0.1"}},
                           config());
  for (const auto& router : {Keys{}, topk}) {
    // AdamW's default 1e-8 would enlarge what rounding leaves of a gradient that is nothing.
    for (const Keys& keys : {Keys{{"train.optimizer", "sgd"}},
                             Keys{{"train.optimizer", "adamw"}, {"train.epsilon", "1e-5"}},
                             Keys{{"train.optimizer", "sgd"}, {"train.statistics", "lag_one"}}}) {
      for (const std::string micro_batches : {"1", "3", "4"}) {
        const auto run =
            with({{"train.micro_batches", micro_batches}}, with(keys, with(router, all_on)));
        std::unique_ptr<model::Transformer> one;
        for (const int processes : {1, 2, 3, 4}) {
          const auto name = base::text(router.size(), keys[0].second, keys.size(), "M",
                                       micro_batches, "P", processes);
          auto trained = train_stirred(run, into(name, 3), processes);
          if (processes == 1) {
            one = std::move(trained);
          } else {
            EXPECT_LE(distance(*trained, *one), 1e-12) << name;
          }
        }
      }
    }
  }
}

/// What the processes do in a step, nothing more and nothing less.
TEST_F(TrainerTest, a_step_issues_exactly_the_collectives_C0_to_C3) {
  const std::vector<std::string> expected{"C0", "C1", "C2/layer/1", "C2/layer/0", "C3", "C3"};
  for (const std::string kind : {"softmax", "topk"}) {
    for (const std::string micro_batches : {"1", "3", "4"}) {
      const auto run =
          with({{"router.main.kind", kind}, {"train.micro_batches", micro_batches}}, config());
      for (const int processes : {1, 2, 3, 4}) {
        const auto name = base::text(kind, micro_batches, "P", processes);
        comm::run_local(processes, [&](comm::Communicator& comm) {
          (void)SmallRun::train(run, into(name, 2), comm);
          std::vector<std::string> tags;
          for (const auto& record : comm.recorder().records()) tags.push_back(record.tag);
          const auto first = std::find(tags.begin(), tags.end(), "C0");
          ASSERT_GE(tags.end() - first, 13) << "two steps, then what saving needs";
          for (std::ptrdiff_t i = 0; i < 12; ++i) {
            EXPECT_EQ(first[i], expected[static_cast<std::size_t>(i % 6)]) << name << " " << i;
          }
          EXPECT_TRUE(first[12].starts_with("checkpoint")) << first[12];
        });
      }
    }
  }
}

/// All processes update or none does.
TEST_F(TrainerTest, a_loss_that_is_not_finite_on_one_process_stops_all_before_they_update) {
  for (const int processes : {1, 3}) {
    const auto options = into(base::text("nan", processes));
    std::atomic<int> stopped = 0;
    comm::run_local(processes, [&](comm::Communicator& comm) {
      const auto spoil = [&](model::Transformer& mine) {
        if (comm.process() != comm.num_processes() - 1) return;
        const at::NoGradGuard no_grad;
        mine.blocks()[1].parameters().leaf("mlp_out/A").fill_(std::nan(""));
      };
      const auto sentence = machine_error_of(
          [&] { (void)SmallRun::train(config(), options, comm, at::kCPU, spoil); });
      EXPECT_TRUE(formats::contains(sentence, "is not finite")) << sentence;
      ++stopped;
    });
    EXPECT_EQ(stopped, processes);
    EXPECT_FALSE(std::filesystem::exists(options.folder / "checkpoints"));
  }
}

/// Whoever holds the same must hold the same bits: one of them is saved for all.
TEST_F(TrainerTest, replicas_that_differ_are_refused_before_one_is_saved) {
  for (const std::string transport : {"replicate", "move_weights"}) {
    auto run = with({{"parallel.transport", transport}, {"parallel.expert", "2"}}, config());
    std::atomic<int> refused = 0;
    const auto stray_run = [&](comm::Communicator& comm) {
      const auto stray = [&](model::Transformer& model) {
        const at::NoGradGuard no_grad;
        if (comm.process() == 3)
          model.blocks()[1].parameters().leaf("mlp_out/down/b")[0][0] = 1e-12;
      };
      try {
        (void)SmallRun::train(run, into("replicas" + transport), comm, at::kCPU, stray);
      } catch (const base::MachineError& error) {
        refused += formats::contains(error.what(), " differ between the") ? 1 : 0;
        throw;
      }
    };
    EXPECT_THROW(comm::run_local(4, stray_run), base::MachineError);
    EXPECT_GE(refused, 2) << transport;
  }
}

TEST_F(TrainerTest, processes_that_went_different_ways_stop_at_the_vote) {
  std::atomic<int> stopped = 0;
  comm::run_local(2, [&](comm::Communicator& comm) {
    const auto stray = [&](model::Transformer&) {  // a collective that only process 1 issued
      if (comm.process() == 0) return;
      comm.recorder().end(comm.recorder().begin({"stray", "barrier", 0, base::DType::u8, 0}));
    };
    const auto sentence = machine_error_of(
        [&] { (void)SmallRun::train(config(), into("stray"), comm, at::kCPU, stray); });
    EXPECT_TRUE(formats::contains(sentence, "issued different collectives")) << sentence;
    ++stopped;
  });
  EXPECT_EQ(stopped, 2);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "stray/checkpoints"));
}

/// With plain SGD an update is the rate times the gradient, here the clipped one.
TEST_F(TrainerTest, a_long_gradient_is_shortened_to_the_length_of_clip) {
  const auto plain = with({{"adapter.main.rank_gate", ""},
                           {"train.optimizer", "sgd"},
                           {"train.warmup", "0"},
                           {"train.schedule", "constant"},
                           {"train.steps", "1"}},
                          config());
  auto bare = plain;
  bare.plan.rank_gates.clear();
  const auto moved = [&](const std::string& clip) {
    const auto name = "clip" + clip;
    const auto trained = train_stirred(with({{"train.clip", clip}}, bare), into(name), 1);
    model::Transformer fresh(model::load_base_model(bare.model, at::kDouble));
    fresh.adapt(bare.plan, static_cast<std::uint64_t>(bare.train.seed));
    model::stir(fresh);
    double squares = 0;
    for (std::size_t l = 0; l < fresh.blocks().size(); ++l) {
      const auto& now = trained->blocks()[l].parameters().leaves();
      const auto& then = fresh.blocks()[l].parameters().leaves();
      for (std::size_t i = 0; i < now.size(); ++i) {
        squares += (now[i] - then[i]).square().sum().item<double>();
      }
    }
    return std::sqrt(squares);
  };
  const double whole = moved("0");
  const double norm = figures("clip0", "train/grad_norm").at(1);
  EXPECT_NEAR(whole, 1e-2 * norm, 1e-12);
  EXPECT_GT(norm, 0.1);
  EXPECT_NEAR(moved("0.01"), 1e-2 * 0.01, 1e-12);
  EXPECT_NEAR(moved("1000"), whole, 1e-14) << "a shorter one is left alone";
}

TEST_F(TrainerTest, the_weights_of_both_duals_are_figures_of_a_step) {
  (void)train_alone(with({{"train.steps", "2"}}, config()), into("one"));
  EXPECT_EQ(figures("one", "entropy_weight/0/main").size(), 2U);
  EXPECT_TRUE(figures("one", "confidence_weight/0/main").empty());
  // Undecided gates have an entropy of log E: above any target, so that the weight rises.
  (void)train_alone(with({{"train.steps", "2"}, {"router.main.confidence", "dual"}}, config()),
                    into("both"));
  const auto weights = figures("both", "confidence_weight/0/main");
  ASSERT_EQ(weights.size(), 2U);
  EXPECT_GT(weights.at(1), 0);
  EXPECT_GT(weights.at(2), weights.at(1));
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
    const auto& leaf = fresh.blocks()[0].parameters().leaf("router/main/weight");
    return (opened.model->blocks()[0].parameters().leaf("router/main/weight") - leaf)
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
  const auto report = RankBudget(run.plan, 10).cut(mixed, *LoneTransport(mixed));
  EXPECT_EQ(report.after, 50);
  EXPECT_LT(report.after, report.before);
  for (auto& block : mixed.blocks()) {
    auto& parameters = block.parameters();
    for (std::size_t i = 0; i < parameters.leaves().size(); ++i) {
      const auto& name = parameters.specs()[i].name;
      const double kept = name.ends_with("/logit") ? 0 : 2;  // the penalty has ended
      EXPECT_TRUE(at::equal(parameters.moment1(i), parameters.leaves()[i] * kept)) << name;
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
  const auto report = RankBudget(unlimited.plan, 10).cut(mixed, *LoneTransport(mixed));
  EXPECT_LT(report.after, report.before);
  EXPECT_TRUE(at::allclose(mixed.hidden(rows), before, 0, 1e-12));
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
