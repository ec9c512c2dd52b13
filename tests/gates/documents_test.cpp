#include "src/gates/documents.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

Documents three_documents() {
  Documents documents;
  documents.begin = {0, 3, 4, 8};
  documents.id = {40, 7, 12};
  documents.span_begin = {1, 3, 4};
  documents.span_end = {3, 4, 8};
  documents.prompt_end = {2, 4, 6};
  return documents;
}

TEST(Documents, tokens_know_their_document) {
  auto documents = three_documents();
  finish(documents, {}, at::kDouble);
  EXPECT_EQ(documents.count(), 3);
  EXPECT_EQ(documents.tokens(), 8);
  EXPECT_TRUE(at::equal(documents.row_T, tests::ints({0, 0, 0, 1, 2, 2, 2, 2})));
  EXPECT_TRUE(at::equal(documents.begin_tensor, tests::ints({0, 3, 4, 8})));
  EXPECT_TRUE(at::equal(documents.whole_tensor, tests::ints({0, 8})));
  EXPECT_TRUE(documents.pool_DT.empty());
}

TEST(Documents, the_pool_averages_each_span_and_nothing_else) {
  auto documents = three_documents();
  finish(documents, {"span"}, at::TensorOptions(at::kFloat));
  EXPECT_EQ(documents.pool_DT.at("span").scalar_type(), at::kFloat);
  const auto expected = tests::reals({0, 0.5, 0.5, 0, 0,    0,    0,    0,  //
                                      0, 0,   0,   1, 0,    0,    0,    0,  //
                                      0, 0,   0,   0, 0.25, 0.25, 0.25, 0.25})
                            .view({3, 8});
  EXPECT_EQ(tests::distance(documents.pool_DT.at("span"), expected), 0);
}

TEST(Documents, every_scope_pools_its_tokens_of_the_prompt) {
  auto documents = three_documents();
  documents.span_end[2] = documents.span_begin[2];  // not marked: the prompt is read
  const std::vector<std::pair<std::string, std::vector<double>>> third{
      {"span", {0.5, 0.5, 0, 0}},
      {"prompt_mean", {0.5, 0.5, 0, 0}},
      {"last_prompt", {0, 1, 0, 0}},
      {"first_token", {1, 0, 0, 0}}};
  for (const auto& [scope, expected] : third) {
    auto read = documents;
    finish(read, {scope}, at::kDouble);
    EXPECT_EQ(tests::distance(read.pool_DT.at(scope)[2].narrow(0, 4, 4), tests::reals(expected)), 0)
        << scope;
    EXPECT_EQ(read.pool_DT.at(scope)[2].narrow(0, 0, 4).abs().sum().item<double>(), 0) << scope;
  }
}

TEST(Documents, a_document_that_is_an_answer_from_its_first_token_is_refused_by_its_line) {
  auto documents = three_documents();
  documents.where = {"a.jsonl:1", "a.jsonl:2", "a.jsonl:3"};
  documents.prompt_end[2] = documents.begin[2];
  for (const std::string scope : {"prompt_mean", "last_prompt"}) {
    auto read = documents;
    const auto sentence =
        tests::refusal<base::ContentError>([&] { finish(read, {scope}, at::kDouble); });
    EXPECT_TRUE(tests::contains(sentence, "a.jsonl:3: a gate of scope " + scope)) << sentence;
  }
  EXPECT_NO_THROW(finish(documents, {"first_token"}, at::kDouble));
}

/// Longer than the chunks in which it is summed.
TEST(RunningMean, is_the_mean_of_all_rows_until_each_for_every_length) {
  for (const std::int64_t length : {1, 31, 32, 33, 100}) {
    Documents documents;
    documents.begin = {0, length, length + 3};
    documents.id = {0, 1};
    finish(documents, {}, at::kDouble);
    const auto x_TD = tests::normal({length + 3, 4}, 5);
    const auto found = running_mean(x_TD, documents);
    for (const auto t : {std::int64_t{0}, length / 2, length - 1}) {
      EXPECT_LT(tests::distance(found[t], x_TD.narrow(0, 0, t + 1).mean(0)), 1e-14) << length;
    }
    EXPECT_LT(tests::distance(found[length + 1], x_TD.narrow(0, length, 2).mean(0)), 1e-15);
  }
}

TEST(Documents, an_empty_row_is_legal) {
  Documents documents;
  finish(documents, {"span"}, at::kDouble);
  EXPECT_EQ(documents.row_T.numel(), 0);
  EXPECT_EQ(documents.pool_DT.at("span").size(0), 0);
}

TEST(Documents, a_span_that_is_empty_or_leaves_its_document_is_refused_where_it_is_read) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> refused{{3, 3}, {2, 4}, {3, 5}, {4, 3}};
  for (const auto& [begin, end] : refused) {
    auto documents = three_documents();
    documents.span_begin[1] = begin;
    documents.span_end[1] = end;
    documents.prompt_end[1] = 3;  // nor does its prompt have a token
    const auto sentence =
        tests::refusal<base::ContentError>([&] { finish(documents, {"span"}, at::kDouble); });
    EXPECT_TRUE(tests::contains(sentence, "document 7")) << sentence;
    EXPECT_NO_THROW(finish(documents, {}, at::kDouble));
  }
}

}  // namespace
}  // namespace dfmoa::gates
