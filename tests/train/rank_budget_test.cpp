// What the rank gates find, and why the literal penalty finds nothing.
#include "src/train/rank_budget.h"

#include <gtest/gtest.h>

#include "src/adapters/rank_gate.h"
#include "src/base/error.h"
#include "src/train/config.h"
#include "src/train/optimizer.h"
#include "tests/support/lone_transport.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::train {
namespace {

/// One LoRA on one linear of a block, so that its rank is the rank of what was learned.
model::AdapterPlan one_lora(std::int64_t rank, double budget = -1) {
  model::AdapterPlan plan;
  auto& adapter = plan.adapters["lora"];
  adapter.sites = {"down"};
  adapter.experts = 1;
  adapter.rank = rank;
  if (budget < 0) return plan;
  adapter.rank_gate = "gate";
  plan.rank_gates["gate"].budget = budget;
  return plan;
}

/// A student of rank 8 learns the block of a teacher whose LoRA has rank 3.
class RankTeacher : public testing::Test {
 protected:
  static constexpr std::int64_t kSteps = 220;

  RankTeacher() {
    model::TinyShape shape;
    shape.layers = 1;
    base_ = model::tiny_base(shape, at::kDouble);
    teacher_ = std::make_unique<model::Transformer>(base_);
    teacher_->adapt(one_lora(3), 7);
    model::stir(*teacher_, 0.3, 8);
    student_ = std::make_unique<model::Transformer>(base_);
    bare_ = std::make_unique<model::Transformer>(base_);
  }

  static at::Tensor block_of(const model::Transformer& model, const model::PackedRows& rows,
                             const model::StepKey& key) {
    return model.blocks()[0].forward(model.embed(rows), {rows, key}).y_TD;
  }

  /// Squared distance from the teacher, relative to what the teacher adds to the base.
  at::Tensor loss(const model::PackedRows& rows, const model::StepKey& key) const {
    const auto target = block_of(*teacher_, rows, key).detach();
    const auto added = target - block_of(*bare_, rows, key).detach();
    return (block_of(*student_, rows, key) - target).square().mean() / added.square().mean();
  }

  model::PackedRows rows(std::int64_t seed) const {
    return student_->pack(model::tiny_row({6, 6, 6, 6, 6, 6}, static_cast<std::uint64_t>(seed)));
  }

  double held_out() const {
    const at::NoGradGuard no_grad;
    return loss(rows(kSteps + 1), {}).item<double>();
  }

  void train(const RankBudget& start) {
    auto budget = start;
    auto& block = student_->blocks()[0];
    const Optimizer optimizer{TrainConfig{}};
    for (std::int64_t step = 0; step < kSteps; ++step) {
      if (budget.cuts_at(step)) {
        before_cut_ = count_rank(*student_);
        (void)budget.cut(*student_, *LoneTransport(*student_));
      }
      const model::StepKey key{5, step, budget.phase(step)};
      block.parameters().zero_gradient();
      block.parameters().accumulate(torch::autograd::grad(
          {loss(rows(step), key)}, block.parameters().leaves(), {}, false, false, true));
      budget.add_gradient(*student_, step);
      const auto rank = count_rank(*student_);
      optimizer.step(student_->blocks(), {3e-2, 0, budget.learning_rate(step)}, step + 1);
      budget.shrink_gates(*student_, step, *LoneTransport(*student_));
      budget.dual_step(rank, step);
    }
  }

  std::shared_ptr<const model::BaseModel> base_;
  std::unique_ptr<model::Transformer> teacher_, student_, bare_;
  RankCount before_cut_;
};

TEST_F(RankTeacher, hard_concrete_with_a_budget_finds_the_rank_of_its_teacher) {
  const auto error_of = [&](double budget) {
    const auto plan = one_lora(8, budget);
    student_->adapt(plan, 3);
    EXPECT_EQ(count_rank(*student_).active, 8);
    train(RankBudget(plan, kSteps));
    EXPECT_EQ(count_rank(*student_).total, static_cast<std::int64_t>(budget));
    return held_out();
  };
  const double three = error_of(3);
  EXPECT_LT(before_cut_.expected, 3.5);  // the penalty found them; the cut only tidies up
  EXPECT_LE(before_cut_.active, 4);
  EXPECT_LT(three, 1e-2);
  const double two = error_of(2);
  RecordProperty("error_of_three_and_two", base::text(three, " ", two));
  EXPECT_GT(two, 10 * three) << "rank 3 is what there was to find";
}

TEST_F(RankTeacher, proximal_gates_with_a_budget_find_it_too) {
  const auto error_of = [&](double budget) {
    auto plan = one_lora(8, budget);
    plan.rank_gates["gate"].kind = "proximal";
    student_->adapt(plan, 3);
    train(RankBudget(plan, kSteps));
    EXPECT_EQ(count_rank(*student_).total, static_cast<std::int64_t>(budget));
    return held_out();
  };
  const double three = error_of(3);
  EXPECT_LE(before_cut_.active, 4) << "the penalty found them; the cut only tidies up";
  EXPECT_LT(three, 0.1) << "its gates were shrunk on the way, and have few steps to grow again";
  const double two = error_of(2);
  RecordProperty("error_of_three_and_two", base::text(three, " ", two));
  EXPECT_GT(two, 2 * three) << "rank 3 is what there was to find";
}

/// The logits of the only rank gates, without gradient; shares the model's storage.
at::Tensor logits_of(const model::Transformer& model) {
  return model.blocks()[0].parameters().leaf("mlp_out/logit").detach();
}

model::Transformer student_of(const model::AdapterPlan& plan) {
  model::TinyShape shape;
  shape.layers = 1;
  model::Transformer model(model::tiny_base(shape, at::kDouble));
  model.adapt(plan, 3);
  return model;
}

/// sigmoid(m) with a penalty on mean |m|: wherever it starts, every gate ends half open.
TEST(LiteralPenalty, fixes_every_gate_at_one_half_and_removes_nothing) {
  auto plan = one_lora(8, 0);
  plan.rank_gates["gate"].kind = "literal";
  plan.rank_gates["gate"].strength = 1.0;
  auto model = student_of(plan);
  const RankBudget budget(plan, 100);
  logits_of(model).copy_(at::linspace(-3, 3, 8, at::kDouble));
  for (int step = 0; step < 2000; ++step) {
    EXPECT_FALSE(budget.cuts_at(step));
    model.blocks()[0].parameters().zero_gradient();
    budget.add_gradient(model, step);
    const auto index = model.blocks()[0].parameters().index_of("mlp_out/logit");
    logits_of(model).sub_(model.blocks()[0].parameters().gradient(index), 0.02);
  }
  const auto z_N = at::sigmoid(logits_of(model));
  EXPECT_LT((z_N - 0.5).abs().max().item<double>(), 1e-2);
  EXPECT_EQ(count_rank(model).active, 8);
}

/// The same logits under the budget's own penalty close. An adapter without rank gates has no share
/// in the budget.
class BudgetPenalty : public testing::TestWithParam<bool> {
 protected:
  /// Directions with a rank gate that are expected to be open in the end, under a budget of 3.
  /// `update` moves the gates by the penalty's gradient alone.
  template <class Update>
  static double expected_under(Update&& update) {
    auto plan = one_lora(8, 3);
    if (GetParam()) {
      plan.adapters["fixed"] = plan.adapters["lora"];
      plan.adapters["fixed"].sites = {"o"};
      plan.adapters["fixed"].rank_gate = "";
    }
    auto model = student_of(plan);
    const double fixed = GetParam() ? 8 : 0;
    EXPECT_EQ(count_rank(model).fixed, static_cast<std::int64_t>(fixed));
    RankBudget budget(plan, 1000);
    logits_of(model).copy_(at::linspace(-1, 2.4, 8, at::kDouble));
    EXPECT_GT(count_rank(model).expected - fixed, 3);
    for (int step = 100; step < 690; ++step) {
      model.blocks()[0].parameters().zero_gradient();
      budget.add_gradient(model, step);
      const auto rank = count_rank(model);
      const auto index = model.blocks()[0].parameters().index_of("mlp_out/logit");
      const auto gradient = model.blocks()[0].parameters().gradient(index);
      if (rank.expected - fixed <= 3) {
        EXPECT_EQ(gradient.abs().max().item<double>(), 0);
      }
      update(model, gradient, step);
      budget.dual_step(rank, step);
    }
    return count_rank(model).expected - fixed;
  }
};

TEST_P(BudgetPenalty, closes_gates_until_the_budget_is_met_and_no_further) {
  const auto by_sign = [](model::Transformer& model, const at::Tensor& gradient, std::int64_t) {
    logits_of(model).sub_(gradient.sign() * 0.01);
  };
  EXPECT_NEAR(expected_under(by_sign), 3, 0.05);
}

/// Momentum carries the gates on where the gradient ends: by 9 learning rates times |m| / sqrt(v),
/// which is about 2 while the penalty still grows (measured 2.70).
TEST_P(BudgetPenalty, is_overshot_by_adam_by_some_twenty_learning_rates) {
  const Optimizer optimizer{TrainConfig{}};
  const double expected =
      expected_under([&](model::Transformer& model, const at::Tensor&, std::int64_t step) {
        optimizer.step(model.blocks(), {0, 0, 0.01}, step + 1);
      });
  EXPECT_LE(expected, 3.05);
  EXPECT_GE(expected, 3 - 8 * 0.25 * 0.2);  // 8 gates, the slope of a probability at most 1 / 4
}

INSTANTIATE_TEST_SUITE_P(FixedBeside, BudgetPenalty, testing::Bool());

TEST(RankCut, leaves_no_more_than_the_budget_whatever_the_gates_say) {
  for (const std::int64_t wanted : {1, 5, 8}) {
    for (const double low : {-5.0, 2.4}) {  // some closed; none closed
      const auto plan = one_lora(8, static_cast<double>(wanted));
      auto model = student_of(plan);
      logits_of(model).copy_(at::linspace(low, 2.4, 8, at::kDouble));
      const auto active = count_rank(model).active;
      const auto report = RankBudget(plan, 10).cut(model, *LoneTransport(model));
      EXPECT_EQ(report.before, 8);
      EXPECT_EQ(report.after, std::min(wanted, active));
      EXPECT_EQ(count_rank(model).total, report.after);
    }
  }
}

/// An adapter without a rank gate has a fixed rank, and no share in the budget.
TEST(RankCut, leaves_adapters_without_a_rank_gate_alone) {
  for (const std::string kind : {"norm", "svd", "hard_concrete"}) {
    auto plan = one_lora(8, 3);
    plan.rank_gates["gate"].kind = kind;
    plan.adapters["fixed"] = plan.adapters["lora"];
    plan.adapters["fixed"].sites = {"o"};
    plan.adapters["fixed"].rank_gate = "";
    auto model = student_of(plan);
    const auto report = RankBudget(plan, 10).cut(model, *LoneTransport(model));
    EXPECT_EQ(report.before, 8);
    EXPECT_EQ(report.after, 3);
    const auto& groups = model.blocks()[0].adapters().groups;
    EXPECT_EQ(groups[1].directions(), 8) << kind;
    EXPECT_EQ(groups[3].directions(), 3) << kind;
  }
}

/// A checkpoint of format 1.0 does not say whether the rank was cut.
TEST(RankBudgetTest, an_older_checkpoint_is_taken_to_have_had_its_cut_in_time) {
  const auto plan = one_lora(8, 3);
  RankBudget before(plan, 100);
  before.resume({}, 70);
  EXPECT_TRUE(before.cuts_at(70));
  RankBudget after(plan, 100);
  after.resume({}, 71);
  EXPECT_FALSE(after.cuts_at(71));
  EXPECT_EQ(after.phase(71), model::RankPhase::settled);
}

TEST(RankBudgetTest, of_less_than_one_direction_is_refused) {
  const auto plan = one_lora(8, 0.5);
  EXPECT_THROW(RankBudget(plan, 10), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::train
