#include "src/data/packing.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace dfmoa::data {
namespace {

using Numbers = std::vector<std::int64_t>;

Sample sample(std::vector<std::int32_t> token, std::int64_t prompt_tokens) {
  Sample made;
  made.trained.assign(token.size(), 1);
  for (std::int64_t i = 0; i < prompt_tokens; ++i) made.trained[static_cast<std::size_t>(i)] = 0;
  made.token = std::move(token);
  made.prompt_tokens = prompt_tokens;
  made.where = "f:1";
  return made;
}

TEST(PackedRow, targets_are_the_next_token_and_never_cross_documents) {
  PackedRow row;
  auto first = sample({1, 2, 3, 4}, 2);
  first.span_begin = 1;
  first.span_end = 2;
  first.task = "t";
  row.append(first, 10, 0, 4);
  row.append(sample({5, 6, 7}, 1), 11, 0, 3);
  EXPECT_EQ(row.token_T, (Numbers{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(row.position_T, (Numbers{0, 1, 2, 3, 0, 1, 2}));
  EXPECT_EQ(row.target_T, (Numbers{-1, 3, 4, -1, 6, 7, -1}));
  EXPECT_EQ(row.document_begin, (Numbers{0, 4, 7}));
  EXPECT_EQ(row.document_id, (Numbers{10, 11}));
  EXPECT_EQ(row.prompt_end, (Numbers{1, 4}));
  EXPECT_EQ(row.span_begin, (Numbers{1, 4}));
  EXPECT_EQ(row.span_end, (Numbers{2, 4})) << "the second has none: an empty range";
  EXPECT_EQ(row.task, (std::vector<std::string>{"t", ""}));
  EXPECT_EQ(row.loss_tokens(), 4);
  EXPECT_EQ(row.documents(), 2);
}

TEST(PackedRow, text_without_a_prompt_has_an_empty_one) {
  PackedRow row;
  row.append(sample({9, 9}, 0), 0, 0, 2);
  row.append(sample({1, 2, 3}, 0), 1, 0, 3);
  EXPECT_EQ(row.prompt_end, (Numbers{0, 2}));
  EXPECT_EQ(row.loss_tokens(), 3);
}

TEST(PackedRow, pieces_of_a_sample_lose_no_target) {
  const auto whole = sample({1, 2, 3, 4, 5}, 2);
  PackedRow row;
  row.append(whole, 0, 0, 3);
  row.append(whole, 1, 3, 5);
  EXPECT_EQ(row.target_T, (Numbers{-1, 3, 4, 5, -1}));
  EXPECT_EQ(row.position_T, (Numbers{0, 1, 2, 0, 1}));
  EXPECT_EQ(row.prompt_end, (Numbers{1, 3})) << "the second piece has no prompt";
}

TEST(PackedRow, span_is_cut_with_its_document) {
  auto whole = sample({1, 2, 3, 4, 5}, 4);
  whole.span_begin = 1;
  whole.span_end = 3;
  PackedRow row;
  row.append(whole, 0, 0, 2);
  row.append(whole, 1, 2, 5);
  EXPECT_EQ(row.span_begin, (Numbers{1, 2}));
  EXPECT_EQ(row.span_end, (Numbers{2, 3}));
}

TEST(PackedRow, range_outside_the_sample_is_refused) {
  PackedRow row;
  const auto whole = sample({1, 2, 3}, 1);
  EXPECT_THROW(row.append(whole, 0, 0, 4), base::ShapeError);
  EXPECT_THROW(row.append(whole, 0, 2, 2), base::ShapeError);
  EXPECT_THROW(row.append(whole, 0, -1, 2), base::ShapeError);
  EXPECT_EQ(row.tokens(), 0);
}

}  // namespace
}  // namespace dfmoa::data
