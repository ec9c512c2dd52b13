#include "src/data/split_pattern.h"

#include <gtest/gtest.h>

#include <vector>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

using formats::sentence_of;
using Parts = std::vector<std::string>;

/// Gaps in parentheses, matches bare.
Parts parts_of(std::string_view pattern, std::string_view text) {
  Parts parts;
  MatchScratch scratch;
  SplitPattern(pattern).for_each(text, scratch, [&](std::size_t begin, std::size_t end, bool hit) {
    const std::string part(text.substr(begin, end - begin));
    parts.push_back(hit ? part : "(" + part + ")");
  });
  return parts;
}

TEST(SplitPattern, visits_matches_and_gaps_in_order) {
  EXPECT_EQ(parts_of("\\p{N}", "a12b"), (Parts{"(a)", "1", "2", "(b)"}));
  EXPECT_EQ(parts_of("\\p{N}+", "٣٤"), (Parts{"٣٤"}));
  EXPECT_EQ(parts_of("x", "abc"), (Parts{"(abc)"}));
  EXPECT_EQ(parts_of("x", ""), (Parts{}));
}

TEST(SplitPattern, empty_matches_separate_gaps_and_end) {
  EXPECT_EQ(parts_of("(?=[A-Z])", "aBéC"), (Parts{"(a)", "", "(Bé)", "", "(C)"}));
  EXPECT_EQ(parts_of("", "é"), (Parts{"", "(é)", ""}));
}

TEST(SplitPattern, blanks_are_white_space_and_nothing_else) {
  EXPECT_EQ(parts_of("\\s+", "a\u180E\u3000\u0085b"), (Parts{"(a\u180E)", "\u3000\u0085", "(b)"}));
  EXPECT_EQ(parts_of("[^\\s]+", "\u180E x"), (Parts{"\u180E", "( )", "x"}));
  EXPECT_EQ(parts_of("\\S", "\u180E"), (Parts{"\u180E"}));
}

TEST(SplitPattern, word_characters_are_those_of_oniguruma) {
  EXPECT_EQ(parts_of("\\w+", "a\u0301_9-b"), (Parts{"a\u0301_9", "(-)", "b"}));
  EXPECT_EQ(parts_of("[\\w-]+", "a-b c"), (Parts{"a-b", "( )", "c"}));
  EXPECT_EQ(parts_of("\\W", "a-"), (Parts{"(a)", "-"}));
  EXPECT_EQ(parts_of("[[:alpha:]x]+", "ax1"), (Parts{"ax", "(1)"}));
  EXPECT_EQ(parts_of("\\u00e9", "aé"), (Parts{"(a)", "é"}));
  EXPECT_EQ(parts_of("[]a]+", "a]b"), (Parts{"a]", "(b)"}));
  EXPECT_EQ(parts_of("^.", "ab\nc"), (Parts{"a", "(b\n)", "c"}));
}

TEST(SplitPattern, literal_text_matches_itself_only) {
  EXPECT_EQ(parts_of(SplitPattern::literal("a.\\E\n*é"), "a.\\E\n*éb"),
            (Parts{"a.\\E\n*é", "(b)"}));
}

TEST(SplitPattern, long_runs_neither_overflow_nor_reach_a_limit) {
  const std::string text = std::string(3'000'000, ' ') + std::string(3'000'000, 'x');
  const Parts parts = parts_of("\\s+(?!\\S)|\\s+|[xy]+", text);
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[2].size(), 3'000'000U);
}

TEST(SplitPattern, refuses_what_it_does_not_understand) {
  EXPECT_EQ(sentence_of<base::ContentError>([] { SplitPattern("a("); }),
            "split pattern 'a(' at character 2: missing closing parenthesis");
  EXPECT_EQ(sentence_of<base::ContentError>([] { SplitPattern("\\h"); }),
            "split pattern '\\h' at character 0: \\h is not implemented; write the class out");
  EXPECT_EQ(sentence_of<base::ContentError>([] { SplitPattern("[a&&b]"); }),
            "split pattern '[a&&b]' at character 2: the intersection of classes (&&) is not "
            "implemented");
  EXPECT_THROW(SplitPattern("[a[b]]"), base::ContentError);
  EXPECT_THROW(SplitPattern("[\\W]"), base::ContentError);
  EXPECT_THROW(SplitPattern("\xFF"), base::ContentError);
}

TEST(SplitPattern, a_limit_of_the_engine_is_an_error) {
  MatchScratch scratch;
  const SplitPattern pattern("(a|aa|aaa)+$|(?:(?:a+)+)+b");
  EXPECT_THROW((void)pattern.find(std::string(60, 'a') + "c", 0, scratch), base::ContentError);
}

}  // namespace
}  // namespace dfmoa::data
