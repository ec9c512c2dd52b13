// Every system in a step over any number of processes, and in a run that is stopped and resumed.
#include <gtest/gtest.h>

#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"
#include "tests/train/trainer_run.h"

namespace dfmoa::train {
namespace {

class SystemStep : public testing::TestWithParam<tests::System> {
 protected:
  static void SetUpTestSuite() { base_ = model::tiny_base({}, at::kDouble); }
  static void TearDownTestSuite() { base_ = nullptr; }

  struct Outcome {
    std::vector<at::Tensor> gradients;
    std::vector<std::vector<double>> statistics;
    double balance = 0;
  };

  /// Unequal rows of documents.
  static std::vector<data::PackedRow> rows(std::size_t count) {
    std::vector<data::PackedRow> all;
    for (std::size_t m = 0; m < count; ++m) {
      all.push_back(model::tiny_row({static_cast<std::int64_t>(3 + 2 * m), 4}, m + 1));
    }
    return all;
  }

  static Outcome step(std::size_t micro_batches, int processes, bool keep) {
    Outcome outcome;
    std::mutex mutex;
    comm::run_local(processes, [&](comm::Communicator& comm) {
      model::Transformer mixed(base_);
      mixed.adapt(GetParam().plan, 3);
      model::stir(mixed, 0.05);
      auto entropy = make_entropy(mixed);
      distributed::ExpertTransport transport(mixed, comm, {}, keep);
      Step step(mixed, entropy, transport, {keep, false});
      const model::StepKey key{5, 3, model::RankPhase::noisy, model::RankPhase::noisy};
      auto result = step.run(rows(micro_batches), key, {});
      const std::lock_guard lock(mutex);
      if (comm.process() != comm.num_processes() - 1) return;
      for (const auto& block : mixed.blocks()) {
        for (std::size_t i = 0; i < block.parameters().specs().size(); ++i) {
          outcome.gradients.push_back(block.parameters().gradient(i).clone());
        }
      }
      outcome.statistics = std::move(result.statistics);
      outcome.balance = result.balance;
    });
    return outcome;
  }

  static void expect_equal(const Outcome& one, const Outcome& two, double tolerance) {
    double scale = 0;
    for (const auto& gradient : two.gradients) {
      if (gradient.numel() > 0) scale = std::max(scale, gradient.abs().max().item<double>());
    }
    ASSERT_EQ(one.gradients.size(), two.gradients.size());
    for (std::size_t i = 0; i < one.gradients.size(); ++i) {
      if (one.gradients[i].numel() == 0) continue;
      const auto worst = (one.gradients[i] - two.gradients[i]).abs().max().item<double>();
      EXPECT_LE(worst, tolerance * scale) << i;
    }
    for (std::size_t l = 0; l < one.statistics.size(); ++l) {
      for (std::size_t u = 0; u < one.statistics[l].size(); ++u) {
        EXPECT_NEAR(one.statistics[l][u], two.statistics[l][u],
                    tolerance * std::max(1.0, std::abs(two.statistics[l][u])));
      }
    }
    EXPECT_NEAR(one.balance, two.balance, tolerance * std::max(1.0, std::abs(two.balance)));
  }

  static std::shared_ptr<const model::BaseModel> base_;
};

std::shared_ptr<const model::BaseModel> SystemStep::base_;

TEST_P(SystemStep, is_the_same_for_one_process_and_four_and_forward_again) {
  for (const std::size_t micro_batches : {1U, 3U, 4U}) {
    const auto alone = step(micro_batches, 1, true);
    expect_equal(step(micro_batches, 4, true), alone, 1e-12);
    expect_equal(step(micro_batches, 1, false), alone, 0);
    expect_equal(step(micro_batches, 4, false), alone, 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Systems, SystemStep, testing::ValuesIn(tests::all_systems()),
                         [](const auto& system) { return system.param.name; });

class SystemRun : public TrainerTest, public testing::WithParamInterface<tests::System> {
 protected:
  void SetUp() override {
    TrainerTest::SetUp();
    std::string lines;
    for (int i = 0; i < 40; ++i) {
      lines += R"({"prompt": "what", "completion": ")" + std::to_string(i) + "\"}\n";
    }
    write("train.jsonl", lines);  // gates of a document read its prompt
  }

  RunConfig run() const {
    RunConfig config;
    config.plan = GetParam().plan;
    if (config.plan.rank_gates.contains("gate")) config.plan.rank_gates.at("gate").budget = 40;
    if (config.plan.rank_gates.contains("dimensions")) {
      config.plan.rank_gates.at("dimensions").budget = 30;
    }
    return with({{"train.steps", "8"},
                 {"train.micro_batches", "3"},
                 {"train.tokens", "16"},
                 {"train.learning_rate", "1e-2"},
                 {"train.precision", "fp64"},
                 {"checkpoint.every", "4"}},
                config);
  }
};

/// Also across the cut of directions and dimensions, at step 5.
TEST_P(SystemRun, resumes_bit_for_bit_and_its_checkpoint_gives_equal_logits) {
  const auto whole = train_alone(run(), into("whole"));
  (void)train_alone(run(), into("halves", 3));
  (void)train_alone(run(), into("halves", 7));
  const auto resumed = train_alone(run(), into("halves"));
  EXPECT_EQ(resumed.report.parameters_hash, whole.report.parameters_hash);
  EXPECT_TRUE(std::isfinite(whole.report.ce));
  base::Logger log(false);
  const auto opened = open_model(folder_ / "whole", "", log);
  const auto rows = whole.model->pack_sequences({{65, 3, 99, 17, 8}}, {0});
  const auto expected = whole.model->hidden(rows);
  const auto reloaded =
      opened.model->hidden(opened.model->pack_sequences({{65, 3, 99, 17, 8}}, {0}));
  EXPECT_LE((reloaded - expected).abs().max().item<double>(), 1e-12);
}

TEST_P(SystemRun, keeps_its_budgets_exactly) {
  const auto trained = train_alone(run(), into("whole"));
  for (const auto owner : {RankOwner::directions, RankOwner::dimensions}) {
    const auto& plan = GetParam().plan;
    const auto gate = owner == RankOwner::directions ? "gate" : "dimensions";
    if (!plan.rank_gates.contains(gate) || plan.rank_gates.at(gate).kind == "literal") continue;
    EXPECT_LE(total_rank(*trained.model, owner), owner == RankOwner::directions ? 40 : 30);
    EXPECT_GT(total_rank(*trained.model, owner), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Systems, SystemRun, testing::ValuesIn(tests::all_systems()),
                         [](const auto& system) { return system.param.name; });

}  // namespace
}  // namespace dfmoa::train
