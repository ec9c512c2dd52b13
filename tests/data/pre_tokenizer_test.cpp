#include "src/data/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "src/data/tokenizer_json.h"

namespace dfmoa::data {
namespace {

using Words = std::vector<std::string>;

Words words_of(PreTokenizer pre_tokenizer, std::string_view text) {
  Words words;
  MatchScratch scratch;
  pre_tokenizer.for_each_word(text, scratch,
                              [&](const Word& word) { words.emplace_back(word.bytes); });
  return words;
}

Words split(SplitBehavior behavior, bool invert, std::string_view text) {
  std::vector<SplitStep> steps;
  steps.push_back({SplitPattern("-"), behavior, invert});
  return words_of({std::move(steps), PreTokenizer::kNoPrefix}, text);
}

TEST(PreTokenizer, every_behavior_cuts_as_the_library_does) {
  // The example of the tokenizers documentation, and the words of the library for it.
  const std::string_view text = "the-final--countdown";
  EXPECT_EQ(split(SplitBehavior::removed, false, text), (Words{"the", "final", "countdown"}));
  EXPECT_EQ(split(SplitBehavior::isolated, false, text),
            (Words{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(split(SplitBehavior::merged_with_previous, false, text),
            (Words{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(split(SplitBehavior::merged_with_next, false, text),
            (Words{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(split(SplitBehavior::contiguous, false, text),
            (Words{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(split(SplitBehavior::removed, true, text), (Words{"-", "-", "-"}));
}

TEST(PreTokenizer, later_steps_see_the_pieces_of_the_earlier) {
  std::vector<SplitStep> steps;
  steps.push_back({SplitPattern("\\p{N}")});
  steps.push_back({SplitPattern(kGpt2Pattern)});
  EXPECT_EQ(words_of({std::move(steps), PreTokenizer::kNoPrefix}, "a  12 b"),
            (Words{"a", "  ", "1", "2", " b"}));
}

TEST(PreTokenizer, a_prefix_blank_is_no_part_of_the_text) {
  std::vector<SplitStep> steps;
  steps.push_back({SplitPattern("\\p{N}")});
  steps.push_back({SplitPattern("a")});
  const PreTokenizer pre_tokenizer(std::move(steps), 1);
  MatchScratch scratch;
  std::vector<std::array<std::size_t, 2>> places;
  Words words;
  pre_tokenizer.for_each_word("1ba c", scratch, [&](const Word& word) {
    words.emplace_back(word.bytes);
    places.push_back({word.begin, word.prefix});
  });
  EXPECT_EQ(words, (Words{" 1", " b", "a", " c"}));
  EXPECT_EQ(places, (std::vector<std::array<std::size_t, 2>>{{0, 1}, {1, 1}, {2, 0}, {3, 0}}));
  EXPECT_EQ(words_of({{}, 0}, ""), Words{});
}

}  // namespace
}  // namespace dfmoa::data
