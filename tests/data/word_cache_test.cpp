#include "src/data/word_cache.h"

#include <gtest/gtest.h>

#include <string>

namespace dfmoa::data {
namespace {

using Ids = std::vector<std::int32_t>;

Ids found(WordCache& cache, std::string_view word) {
  const auto tokens = cache.find(word);
  return {tokens.begin(), tokens.end()};
}

TEST(WordCache, remembers_a_word_and_no_other) {
  using namespace std::string_literals;
  WordCache cache;
  EXPECT_EQ(found(cache, "ab"), Ids{});
  cache.keep(Ids{1, 2});
  EXPECT_EQ(found(cache, "ab"), (Ids{1, 2}));
  EXPECT_EQ(found(cache, "ab\0"s), Ids{});  // the padding is no part of a word
  EXPECT_EQ(found(cache, ""), Ids{});
}

TEST(WordCache, does_not_keep_what_has_no_room) {
  WordCache cache;
  const std::string fits(WordCache::kMostBytes, 'x');
  (void)cache.find(fits);
  cache.keep(Ids(WordCache::kMostTokens, 3));
  EXPECT_EQ(found(cache, fits), Ids(WordCache::kMostTokens, 3));
  (void)cache.find(fits + "x");
  cache.keep(Ids{1});
  EXPECT_EQ(found(cache, fits + "x"), Ids{});
  (void)cache.find("many");
  cache.keep(Ids(WordCache::kMostTokens + 1, 3));
  EXPECT_EQ(found(cache, "many"), Ids{});
}

TEST(WordCache, a_million_words_never_answer_for_each_other) {
  WordCache cache;
  for (std::int32_t round = 0; round < 2; ++round) {
    for (std::int32_t i = 0; i < 500'000; ++i) {
      const std::string word = "w" + std::to_string(i);
      const auto tokens = cache.find(word);
      ASSERT_EQ(tokens.empty() ? i : tokens[0], i);
      cache.keep(Ids{i});
    }
  }
}

}  // namespace
}  // namespace dfmoa::data
