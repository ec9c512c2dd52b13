// The vocabulary's size never meets the number of tokens in one allocation.
#include <gtest/gtest.h>

#include "distributed/comm/local.h"
#include "src/ops/linear_cross_entropy.h"
#include "src/train/state.h"
#include "src/train/step.h"
#include "tests/support/counting_allocator.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::train {
namespace {

constexpr std::int64_t kChunk = 256;  // the default of linear_cross_entropy
constexpr std::int64_t kVocabulary = 6000;
constexpr std::int64_t kBuffer = kChunk * kVocabulary * 4;

class StepMemory : public testing::TestWithParam<bool> {};

TEST_P(StepMemory, its_largest_allocation_is_one_chunk_of_logits) {
  model::TinyShape shape;
  shape.max_positions = 1024;
  shape.vocabulary = kVocabulary;
  model::Transformer mixed(model::tiny_base(shape, at::kFloat));
  mixed.adapt(model::tiny_plan("token"), 3);
  model::stir(mixed);
  auto entropy = make_entropy(mixed);
  const auto comm = comm::make_single();
  distributed::ExpertTransport transport(mixed, *comm, {}, /*keep=*/GetParam());
  Step step(mixed, entropy, transport, {/*keep=*/GetParam(), false});
  const std::vector<data::PackedRow> rows{model::tiny_row({500, 300}, 1, kVocabulary),
                                          model::tiny_row({400, 400}, 2, kVocabulary)};
  const tests::CountingAllocator memory;
  const auto result = step.run(rows, {5, 3, model::RankPhase::held}, {});
  EXPECT_EQ(result.n_loss, 1596);
  EXPECT_EQ(memory.largest_bytes(), kBuffer);
  EXPECT_LT(memory.largest_bytes(), rows[0].loss_tokens() * kVocabulary * 4 / 3);
  EXPECT_LT(memory.peak_bytes(), 2 * kBuffer) << "more than one buffer of logits";
}

INSTANTIATE_TEST_SUITE_P(Memory, StepMemory, testing::Bool(), [](const auto& keep) {
  return std::string(keep.param ? "keep" : "recompute");
});

TEST(LinearCrossEntropyMemory, is_one_buffer_however_many_rows_bear_loss) {
  for (const std::int64_t rows : {256, 257, 2000}) {
    const auto x_XD = at::ones({rows, 8});
    const auto weight_VD = at::ones({kVocabulary, 8});
    const auto target_X = at::zeros({rows}, at::kLong);
    const tests::CountingAllocator memory;
    const auto result = ops::linear_cross_entropy(x_XD, weight_VD, target_X, 1.0, true);
    EXPECT_EQ(memory.largest_bytes(), kBuffer);
    EXPECT_LT(memory.peak_bytes(), kBuffer + kBuffer / 20) << rows;
    EXPECT_LT(memory.live_bytes(), rows * 64) << "the buffer is kept";
  }
}

}  // namespace
}  // namespace dfmoa::train
