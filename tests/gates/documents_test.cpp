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
  return documents;
}

TEST(Documents, tokens_know_their_document) {
  auto documents = three_documents();
  finish(documents, false, at::kDouble);
  EXPECT_EQ(documents.count(), 3);
  EXPECT_EQ(documents.tokens(), 8);
  EXPECT_TRUE(at::equal(documents.row_T, tests::ints({0, 0, 0, 1, 2, 2, 2, 2})));
  EXPECT_TRUE(at::equal(documents.begin_tensor, tests::ints({0, 3, 4, 8})));
  EXPECT_TRUE(at::equal(documents.whole_tensor, tests::ints({0, 8})));
  EXPECT_FALSE(documents.pool_DT.defined());
}

TEST(Documents, the_pool_averages_each_span_and_nothing_else) {
  auto documents = three_documents();
  finish(documents, true, at::TensorOptions(at::kFloat));
  EXPECT_EQ(documents.pool_DT.scalar_type(), at::kFloat);
  const auto expected = tests::reals({0, 0.5, 0.5, 0, 0,    0,    0,    0,  //
                                      0, 0,   0,   1, 0,    0,    0,    0,  //
                                      0, 0,   0,   0, 0.25, 0.25, 0.25, 0.25})
                            .view({3, 8});
  EXPECT_EQ(tests::distance(documents.pool_DT, expected), 0);
}

TEST(Documents, an_empty_row_is_legal) {
  Documents documents;
  finish(documents, true, at::kDouble);
  EXPECT_EQ(documents.row_T.numel(), 0);
  EXPECT_EQ(documents.pool_DT.size(0), 0);
}

TEST(Documents, a_span_that_is_empty_or_leaves_its_document_is_refused_where_it_is_read) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> refused{{3, 3}, {2, 4}, {3, 5}, {4, 3}};
  for (const auto& [begin, end] : refused) {
    auto documents = three_documents();
    documents.span_begin[1] = begin;
    documents.span_end[1] = end;
    const auto sentence =
        tests::refusal<base::ContentError>([&] { finish(documents, true, at::kDouble); });
    EXPECT_TRUE(tests::contains(sentence, "document 7")) << sentence;
    EXPECT_NO_THROW(finish(documents, false, at::kDouble));
  }
}

}  // namespace
}  // namespace dfmoa::gates
