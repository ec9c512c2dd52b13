#include "src/model/attention_gates.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::model {
namespace {

using tests::distance;
using tests::normal;

DimensionMask mask_of(std::int64_t rows, std::int64_t channels, std::vector<std::int64_t> left) {
  DimensionMask mask{"qk", rows, channels, std::move(left)};
  mask.index(at::kCPU);
  return mask;
}

TEST(DimensionMask, what_a_shrink_removed_is_zero_and_the_rest_keeps_its_place) {
  const auto mask = mask_of(2, 3, {0, 2, 5});
  EXPECT_EQ(mask.total(), 6);
  EXPECT_EQ(mask.left(), 3);
  const auto z = tests::reals({0.5, 0.25, 1}).view({1, 3});
  const auto spread = mask.spread(z, at::kDouble);
  EXPECT_EQ(distance(spread, tests::reals({0.5, 0, 0.25, 0, 0, 1}).view({1, 6})), 0);
  const auto ones = mask.spread({}, at::kDouble);
  EXPECT_EQ(distance(ones, tests::reals({1, 0, 1, 0, 0, 1}).view({1, 6})), 0);
}

TEST(DimensionMask, a_whole_one_passes_its_gates_on) {
  const auto mask = mask_of(1, 2, {0, 1});
  EXPECT_FALSE(mask.spread({}, at::kDouble).defined());
  const auto z = normal({3, 2}, 1);
  EXPECT_TRUE(mask.spread(z, at::kDouble).is_same(z));
}

TEST(DimensionMask, refuses_to_spread_what_is_not_indexed) {
  DimensionMask mask{"qk", 2, 3, {0, 2, 5}};
  const auto said = [&] {
    return tests::refusal<base::ShapeError>([&] { (void)mask.spread({}, at::kDouble); });
  };
  const auto sentence = said();
  EXPECT_TRUE(tests::contains(sentence, "mask qk: indexed for 0 of the 3 dimensions")) << sentence;
  mask.index(at::kCPU);
  EXPECT_TRUE(mask.spread({}, at::kDouble).defined());
  mask.dimension_id_N = {0, 5};
  EXPECT_TRUE(tests::contains(said(), "indexed for 3 of the 2"));
}

/// Heads 0, 1 are the group of row 0; channels 0 and 2 are a rotary pair.
TEST(GateDimensions, groups_share_a_row_and_pairs_share_a_channel) {
  const auto x_THC = normal({3, 4, 4}, 2);
  const auto mask = mask_of(2, 2, {0, 1, 2, 3});
  const auto z_ZN = normal({2, 4}, 3);
  const auto row_T = tests::ints({0, 1, 1});
  const auto y = gate_dimensions(x_THC, mask, z_ZN, row_T);
  for (std::int64_t t = 0; t < 3; ++t) {
    for (std::int64_t h = 0; h < 4; ++h) {
      for (std::int64_t c = 0; c < 4; ++c) {
        const auto z = z_ZN[t == 0 ? 0 : 1][h / 2 * 2 + c % 2].item<double>();
        EXPECT_EQ(y[t][h][c].item<double>(), x_THC[t][h][c].item<double>() * z);
      }
    }
  }
  EXPECT_TRUE(gate_dimensions(x_THC, mask, {}, {}).is_same(x_THC)) << "open gates cost nothing";
}

TEST(GateDimensions, a_row_per_head_and_a_gate_per_channel) {
  const auto x_THC = normal({2, 3, 2}, 4);
  const auto z = normal({1, 6}, 5);
  const auto y = gate_dimensions(x_THC, mask_of(3, 2, {0, 1, 2, 3, 4, 5}), z, {});
  EXPECT_EQ(distance(y, x_THC * z.view({1, 3, 2})), 0);
}

TEST(GateDimensions, gates_of_heads_come_after_those_of_dimensions) {
  const auto x_THC = normal({2, 3, 2}, 6);
  const auto z = normal({1, 6}, 7);
  const auto gate_TH = normal({2, 3}, 8);
  const auto mask = mask_of(3, 2, {0, 1, 2, 3, 4, 5});
  EXPECT_EQ(distance(gate_dimensions(x_THC, mask, z, {}, gate_TH),
                     x_THC * z.view({1, 3, 2}) * gate_TH.unsqueeze(2)),
            0);
  EXPECT_EQ(distance(gate_dimensions(x_THC, mask, {}, {}, gate_TH), x_THC * gate_TH.unsqueeze(2)),
            0);
}

TEST(DfaConfig, is_on_where_something_is_gated) {
  DfaConfig config;
  EXPECT_FALSE(config.is_on());
  auto list = base::FieldList::of(config);
  list.assign("dfa", "router", "heads");
  EXPECT_TRUE(config.is_on());
  list.assign("dfa", "router", "");
  list.assign("dfa", "attention", "literal");
  EXPECT_TRUE(config.is_on() && config.is_literal());
  list.assign("dfa", "dimensions", "v");
  list.assign("dfa", "layers", "0-3");
  list.assign("dfa", "rank_gate", "cut");
  EXPECT_EQ(config.dimensions, std::vector<std::string>{"v"});
  EXPECT_EQ(config.layers + config.rank_gate, "0-3cut");
}

}  // namespace
}  // namespace dfmoa::model
