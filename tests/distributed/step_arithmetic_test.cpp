// Who computes what of a step, and for whose tokens.
#include <numeric>

#include "distributed/memory_model.h"
#include "src/model/adapt.h"
#include "src/train/step_cost.h"
#include "tests/distributed/parallel_run.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::distributed {
namespace {

constexpr double kRow = 400;  // tokens of a micro-batch
constexpr double kLayers = 4;
// Of an expert of rank 2 in all linears of a block: in and out features of q and o, k and v, the
// MLP.
constexpr double kOfExpert = 2 * (2 * (128 + 128) + 2 * (128 + 64) + 3 * (128 + 320));

class StepArithmetic : public testing::Test {
 protected:
  /// By place, with the figure that a run is told.
  struct Flops {
    std::vector<double> by_place;
    double told = 0;
    [[nodiscard]] double sum() const {
      return std::accumulate(by_place.begin(), by_place.end(), 0.0);
    }
  };

  [[nodiscard]] Flops of(const model::AdapterPlan& plan, const Layout& layout,
                         std::int64_t micro_batches) const {
    train::RunConfig run;
    run.plan = plan;
    run.set("parallel.expert", std::to_string(layout.expert));
    run.set("parallel.transport", layout.transport);
    run.set("train.memory", layout.memory);
    run.set("train.tokens", std::to_string(static_cast<std::int64_t>(kRow)));
    run.set("train.micro_batches", std::to_string(micro_batches));
    for (const auto& [key, value] : layout.more) run.set(key, value);
    const auto blocks =
        plan_layout(model::plan_blocks(plan, *base_), base_->architecture, run.parallel);
    const auto workload = workload_of(*base_, blocks, run.train.tokens, false);
    const auto form = train::step_form(run, layout.processes, 0);
    return {flops_of_step(blocks, form, workload),
            train::cost_of(run, *base_, blocks, layout.processes, false).flops};
  }

  std::shared_ptr<const model::BaseModel> base_ = [] {
    model::TinyShape shape;
    shape.hidden = 128;
    shape.intermediate = 320;
    shape.layers = static_cast<std::int64_t>(kLayers);
    shape.max_positions = 512;
    return model::tiny_base(shape, at::kFloat);
  }();
};

/// What all of a copy compute together does not depend on where it is computed.
TEST_F(StepArithmetic, of_dense_gates_is_shared_out_and_not_more_nor_less) {
  auto beside = tests::heterogeneous("sigmoid");  // owned, and computed by everybody for its own
  auto gated = tests::experts_behind("threshold", 5);
  gated.adapters["mix"].rank_gate = "gate";
  gated.rank_gates["gate"] = {};
  gated.routers["main"].input = "per_site";
  gated.adapters["mix"].layers = "1-2";
  for (const auto& plan : {tests::experts_behind("softmax"), beside, gated}) {
    for (const auto& [processes, expert] :
         std::vector<std::pair<int, int>>{{2, 2}, {3, 3}, {4, 2}}) {
      for (const std::string memory : {"keep", "recompute"}) {
        for (const std::int64_t micro_batches : {1, 3, 4}) {  // some have one more than others
          SCOPED_TRACE(base::text(processes, " ", expert, " ", memory, " M", micro_batches));
          const auto all = of(plan, {processes, expert, "replicate", memory}, micro_batches);
          const auto tokens = of(plan, {processes, expert, "move_tokens", memory}, micro_batches);
          const auto weights = of(plan, {processes, expert, "move_weights", memory}, micro_batches);
          ASSERT_EQ(tokens.by_place.size(), static_cast<std::size_t>(expert));
          EXPECT_NEAR(tokens.sum() / all.sum(), 1, 1e-12);
          EXPECT_EQ(weights.by_place, all.by_place);
          EXPECT_EQ(all.told, all.by_place[0]) << "nobody has more micro-batches";
        }
      }
    }
  }
}

/// Experts 0 and 1 of 3 lie with one process, whom every token needs that chooses two; the third is
/// chosen by two tokens of three. Tokens of both processes come.
TEST_F(StepArithmetic, of_sparse_gates_follows_the_tokens_that_arrive) {
  const auto plan = tests::experts_behind("topk");
  const train::Keys owners{{"parallel.owners", "0,0,1"}};
  for (const std::string memory : {"keep", "recompute"}) {
    SCOPED_TRACE(memory);
    const double products = memory == "keep" ? 2 + 4 : 2 + 2 + 4;
    const auto dense = of(plan, {2, 2, "move_weights", memory, "auto", owners}, 2);
    const auto sparse = of(plan, {2, 2, "move_tokens", memory, "auto", owners}, 2);
    const double of_one = products * kRow * kLayers * kOfExpert;
    EXPECT_DOUBLE_EQ(sparse.by_place[0] - dense.by_place[0], (2 * 1.0 * 2 - 3) * of_one);
    EXPECT_NEAR(sparse.by_place[1] - dense.by_place[1], (2 * (2.0 / 3) * 1 - 3) * of_one,
                1e-9 * of_one);
    EXPECT_EQ(sparse.told, sparse.by_place[0]) << "the step waits for the fullest";
  }
}

TEST_F(StepArithmetic, of_the_fullest_process_is_told_wherever_it_is) {
  const auto plan = tests::experts_behind("softmax");
  const auto flops =
      of(plan, {2, 2, "move_tokens", "keep", "auto", {{"parallel.owners", "1,1,1"}}}, 2);
  EXPECT_DOUBLE_EQ(flops.by_place[1] - flops.by_place[0], 6 * kRow * kLayers * 2 * 3 * kOfExpert);
  EXPECT_EQ(flops.told, flops.by_place[1]);
}

/// A process without a micro-batch of its own computes the experts that it owns for those that have
/// one.
TEST_F(StepArithmetic, of_experts_is_for_every_micro_batch_of_the_copy) {
  const auto plan = tests::experts_behind("softmax");
  const Layout layout{2, 2, "move_tokens", "keep", "auto", {{"parallel.owners", "1,1,1"}}};
  const auto one = of(plan, layout, 1);
  const auto two = of(plan, layout, 2);
  EXPECT_DOUBLE_EQ(two.by_place[0], one.by_place[0]) << "its own tokens alone";
  EXPECT_DOUBLE_EQ(one.by_place[1], 6 * kRow * kLayers * 3 * kOfExpert);
}

/// Rows of A that all experts share are there at every owner, for all that comes.
TEST_F(StepArithmetic, of_shared_rows_is_done_at_every_owner) {
  auto plan = tests::experts_behind("softmax");
  plan.adapters["mix"].shared_a = true;
  const auto all = of(plan, {2, 2, "replicate"}, 2);
  const auto tokens = of(plan, {2, 2, "move_tokens"}, 2);
  const double shared = 2 * (6 * 128 + 320);  // rank, in features of all linears
  EXPECT_DOUBLE_EQ(tokens.sum() - all.sum(), 6 * kRow * kLayers * 2 * shared);
}

}  // namespace
}  // namespace dfmoa::distributed
