#include "distributed/weight_gather.h"

#include <numeric>

#include "tests/support/tensors.h"

namespace dfmoa::distributed {
namespace {

using adapters::ParameterSpec;

/// Two parameters: x/b of rows 0 1 | 2 3 4 | 5 for owners 0, 1, 0, and w that all hold.
const std::vector<RowRun> kGatherRuns{{"x/b", 0, 2, 0, true},
                                      {"x/b", 2, 3, 1, true},
                                      {"x/b", 5, 1, 0, true},
                                      {"w", 0, 2, kHeldByAll, false}};
const std::vector<ParameterSpec> kWholeSpecs{{"x/b", {6, 4}}, {"w", {2, 3}}};

/// What one of three owners holds; the last has nothing of x/b.
std::vector<ParameterSpec> held_specs(int place) {
  return {{"x/b", {std::array<std::int64_t, 3>{3, 3, 0}.at(static_cast<std::size_t>(place)), 4}},
          {"w", {2, 3}}};
}

bool is_owned(const RowRun& run) {
  return run.owner != kHeldByAll;
}
bool is_shared(const RowRun& run) {
  return run.owner == kHeldByAll;
}

WeightGather gather_of(int place, const std::function<bool(const RowRun&)>& takes) {
  return {kGatherRuns, kWholeSpecs, held_specs(place), place, 3, takes};
}

/// x/b (6, 4) and w (2, 3).
std::vector<at::Tensor> whole_tensors() {
  return {tests::normal({6, 4}, 1), tests::normal({2, 3}, 2)};
}

std::vector<at::Tensor> held_tensors(const std::vector<at::Tensor>& whole, int place) {
  const std::vector<std::vector<std::int64_t>> rows{{0, 1, 5}, {2, 3, 4}, {}};
  const auto index = torch::tensor(rows.at(static_cast<std::size_t>(place)), at::kLong);
  return {whole[0].index_select(0, index), whole[1].clone()};
}

TEST(WeightGather, messages_have_the_size_of_the_largest_owner) {
  const auto owned = gather_of(0, is_owned);
  EXPECT_EQ(owned.largest(), 12);
  EXPECT_EQ(owned.parameters(), (std::vector<std::size_t>{0}));
  const auto shared = gather_of(2, is_shared);
  EXPECT_EQ(shared.largest(), 6);
  EXPECT_EQ(shared.parameters(), (std::vector<std::size_t>{1}));
  const auto nothing = gather_of(0, [](const RowRun&) { return false; });
  EXPECT_TRUE(nothing.empty());
  EXPECT_TRUE(WeightGather().empty());
  EXPECT_FALSE(owned.empty());
}

TEST(WeightGather, messages_of_all_owners_are_the_whole_block) {
  const auto whole = whole_tensors();
  const auto messages = at::full({3 * 12}, std::nan(""), at::kDouble);
  for (int place = 0; place < 3; ++place) {
    gather_of(place, is_owned)
        .pack_own(held_tensors(whole, place), messages.narrow(0, 12 * place, 12));
  }
  const std::vector<at::Tensor> arrived{at::zeros({6, 4}, at::kDouble), at::Tensor()};
  gather_of(1, is_owned).unpack_all(messages, arrived);
  EXPECT_TRUE(at::equal(arrived[0], whole[0]));
}

TEST(WeightGather, gradients_of_the_whole_reach_the_rows_of_their_owner) {
  const auto whole = whole_tensors();
  const auto messages = at::full({3 * 12}, 7.0, at::kDouble);
  gather_of(0, is_owned).pack_all({whole[0], at::Tensor()}, messages);
  for (int place = 0; place < 3; ++place) {
    const auto held = held_tensors(whole, place);
    const std::vector<at::Tensor> gradient{at::ones_like(held[0]), at::ones_like(held[1])};
    gather_of(place, is_owned).add_own(messages.narrow(0, 12 * place, 12), gradient);
    EXPECT_TRUE(at::equal(gradient[0], held[0] + 1.0)) << place;
    EXPECT_TRUE(at::equal(gradient[1], at::ones_like(held[1]))) << "rows that do not travel";
  }
  EXPECT_TRUE(at::equal(messages.narrow(0, 24, 12), at::full({12}, 7.0, at::kDouble)))
      << "the third owns nothing: pads are left alone";
}

TEST(WeightGather, what_is_undefined_is_left_out) {
  const auto messages = at::full({3 * 12}, 7.0, at::kDouble);
  gather_of(0, is_owned).pack_all({at::Tensor(), at::Tensor()}, messages);
  EXPECT_TRUE(at::equal(messages, at::full({3 * 12}, 7.0, at::kDouble)));
}

TEST(WeightGather, own_rows_are_views_and_sums_replace_them) {
  const auto whole = whole_tensors();
  for (int place = 0; place < 3; ++place) {
    const auto held = held_tensors(whole, place);
    const auto gather = gather_of(place, is_owned);
    std::int64_t rows = 0;
    for (const auto& own : gather.own_rows(held)) rows += own.size(0);
    EXPECT_EQ(rows, held[0].size(0));
    const auto message = at::zeros({12}, at::kDouble);
    gather.pack_own(held, message);
    gather.unpack_own(message * 3.0, held);
    EXPECT_TRUE(at::equal(held[0], held_tensors(whole, place)[0] * 3.0)) << place;
    for (const auto& own : gather.own_rows(held)) own.zero_();
    EXPECT_EQ(held[0].abs().sum().item<double>(), 0);
  }
}

TEST(WeightGather, rows_that_all_hold_are_everybodys_own) {
  const auto whole = whole_tensors();
  for (int place = 0; place < 3; ++place) {
    const auto held = held_tensors(whole, place);
    const auto gather = gather_of(place, is_shared);
    const auto message = at::zeros({6}, at::kDouble);
    gather.pack_own(held, message);
    EXPECT_TRUE(at::equal(message.view({2, 3}), whole[1])) << place;
    gather.unpack_own(message * 2.0, held);
    EXPECT_TRUE(at::equal(held[1], whole[1] * 2.0)) << place;
    EXPECT_TRUE(at::equal(held[0], held_tensors(whole, place)[0])) << place;
  }
}

/// One of three owners copies what it holds of both kinds to the whole, and adds it back.
TEST(WeightGather, held_rows_go_to_the_whole_and_gradients_come_back) {
  const auto source = whole_tensors();
  for (const auto& [takes, index] : {std::pair(&is_owned, 0U), std::pair(&is_shared, 1U)}) {
    const auto gather = gather_of(1, takes);
    const auto held = held_tensors(source, 1);
    auto whole = whole_tensors();
    for (auto& tensor : whole) tensor.zero_();
    gather.copy_held(held, whole);
    auto expected = at::zeros_like(source[index]);
    const auto begin = index == 0 ? 2 : 0;
    expected.narrow(0, begin, held[index].size(0)).copy_(held[index]);
    EXPECT_TRUE(at::equal(whole[index], expected));
    EXPECT_EQ(whole[1 - index].count_nonzero().item<std::int64_t>(), 0);
    auto sums = held_tensors(source, 1);
    gather.add_held(whole, sums);
    EXPECT_TRUE(at::equal(sums[index], 2 * held[index]));
    EXPECT_TRUE(at::equal(sums[1 - index], held[1 - index]));
    whole[index] = at::Tensor();
    gather.add_held(whole, sums);  // nothing of what is left out
    EXPECT_TRUE(at::equal(sums[index], 2 * held[index]));
  }
}

TEST(WeightGather, rows_that_stay_move_the_place_of_those_that_travel) {
  const auto whole = whole_tensors();
  // Of x/b the last run alone travels: in its owner it comes after the rows that stay.
  const WeightGather last(kGatherRuns, kWholeSpecs, held_specs(0), 0, 3, [](const RowRun& run) {
    return run.parameter == "x/b" && run.begin == 5;
  });
  EXPECT_EQ(last.largest(), 4);
  const auto message = at::zeros({4}, at::kDouble);
  last.pack_own(held_tensors(whole, 0), message);
  EXPECT_TRUE(at::equal(message, whole[0][5]));
}

}  // namespace
}  // namespace dfmoa::distributed
