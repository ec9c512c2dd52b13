#include "src/data/vocabulary.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

using formats::sentence_of;

TokenizerSpec spec_of(std::vector<std::pair<std::string, std::int32_t>> tokens,
                      std::vector<AddedToken> added = {}) {
  TokenizerSpec spec;
  spec.vocabulary = std::move(tokens);
  spec.added_tokens = std::move(added);
  spec.where = "t.json";
  return spec;
}

TEST(Vocabulary, knows_tokens_by_id_text_and_byte) {
  const Vocabulary vocabulary(
      spec_of({{"a", 0}, {"Ġa", 1}, {"▁", 2}}, {{.content = "<é>", .id = 5, .special = true}}));
  EXPECT_EQ(vocabulary.size(), 6);
  EXPECT_EQ(vocabulary.id_of("Ġa"), 1);
  EXPECT_EQ(vocabulary.bytes_of(1), " a");
  EXPECT_EQ(vocabulary.bytes_of(2), "▁");  // written with no stand-in: stands for itself
  EXPECT_EQ(vocabulary.bytes_of(5), "<é>");
  EXPECT_TRUE(vocabulary.is_special(5));
  EXPECT_EQ(vocabulary.of_byte('a'), 0);
  EXPECT_EQ(vocabulary.of_byte('b'), Vocabulary::kNoToken);
  EXPECT_EQ(sentence_of<base::ContentError>([&] { (void)vocabulary.bytes_of(3); }),
            "tokenizer: 3 is no token, expected an id below 6");  // a hole
}

TEST(Vocabulary, an_added_token_may_stand_in_the_vocabulary_too) {
  const Vocabulary vocabulary(
      spec_of({{"<s>", 0}, {"b", 1}}, {{.content = "<s>", .id = 0, .special = true}}));
  EXPECT_EQ(vocabulary.size(), 2);
  EXPECT_TRUE(vocabulary.is_special(0));
}

TEST(Vocabulary, refuses_ids_that_contradict_each_other) {
  EXPECT_EQ(sentence_of<base::ContentError>([] {
              Vocabulary(spec_of({{"a", 0}, {"b", 0}}));
            }),
            "t.json: id 0 belongs to 'b' and to 'a'");
  EXPECT_EQ(sentence_of<base::ContentError>([] {
              Vocabulary(spec_of({{"a", -1}}));
            }),
            "t.json: token 'a' has id -1, expected 0 to 16777215");
  EXPECT_THROW(Vocabulary(spec_of({{"a", 0}}, {{.content = "a", .id = 1}})), base::ContentError);
  EXPECT_THROW(Vocabulary(spec_of({{"a", 0}}, {{.content = "b", .id = 0}})), base::ContentError);
  EXPECT_THROW(Vocabulary(spec_of({}, {{.content = "b", .id = 1 << 24}})), base::ContentError);
}

TEST(Vocabulary, refuses_merges_of_what_is_no_token) {
  TokenizerSpec spec = spec_of({{"a", 0}, {"b", 1}});
  spec.merges = {{"a", "b"}};
  EXPECT_EQ(sentence_of<base::ContentError>([&] { (void)Vocabulary(spec).merge_pairs(spec); }),
            "t.json: merge 0 ('a' 'b') needs 'ab', which is not in the vocabulary");
  spec.merges = {{"a", "c"}};
  EXPECT_EQ(sentence_of<base::ContentError>([&] { (void)Vocabulary(spec).merge_pairs(spec); }),
            "t.json: merge 0 ('a' 'c') needs 'c', which is not in the vocabulary");
}

}  // namespace
}  // namespace dfmoa::data
