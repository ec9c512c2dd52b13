#include "src/data/added_tokens.h"

#include <gtest/gtest.h>

namespace dfmoa::data {
namespace {

/// Segments as text, tokens in angle brackets with their id.
std::string split(const std::vector<AddedToken>& tokens, std::string_view text) {
  MatchScratch scratch;
  std::vector<AddedTokens::Segment> segments;
  AddedTokens(tokens).split(text, scratch, segments);
  std::string out;
  for (const auto& segment : segments) {
    const std::string part(text.substr(segment.begin, segment.end - segment.begin));
    out += segment.id == AddedTokens::kNoToken ? "(" + part + ")"
                                               : std::to_string(segment.id) + "[" + part + "]";
  }
  return out;
}

TEST(AddedTokens, the_leftmost_and_of_several_the_longest) {
  const std::vector<AddedToken> tokens = {{.content = "ab", .id = 1},
                                          {.content = "abc", .id = 2},
                                          {.content = "bcd", .id = 3},
                                          {.content = "", .id = 4}};
  EXPECT_EQ(split(tokens, "xabcd ab"), "(x)2[abc](d )1[ab]");
  EXPECT_EQ(split(tokens, ""), "");
  EXPECT_EQ(split({}, "ab"), "(ab)");
}

TEST(AddedTokens, swallow_the_blanks_their_flags_name) {
  EXPECT_EQ(split({{.content = "x", .id = 1, .lstrip = true}}, "a \u3000x b"),
            "(a)1[ \u3000x]( b)");
  EXPECT_EQ(split({{.content = "x", .id = 1, .rstrip = true}}, "a x\n\u00a0b"),
            "(a )1[x\n\u00a0](b)");
  EXPECT_EQ(split({{.content = "x", .id = 1, .lstrip = true, .rstrip = true}}, "x x"), "1[x ]1[x]");
}

TEST(AddedTokens, single_words_stand_between_no_word_characters) {
  const std::vector<AddedToken> tokens = {{.content = "x", .id = 1, .single_word = true}};
  EXPECT_EQ(split(tokens, "x ax xé x_ -x- x\u0301 x"), "1[x]( ax xé x_ -)1[x](- x\u0301 )1[x]");
}

}  // namespace
}  // namespace dfmoa::data
