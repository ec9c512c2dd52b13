#include "src/data/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <random>

namespace dfmoa::data {
namespace {

std::vector<Symbol> word_of(const std::vector<std::int32_t>& ids) {
  std::vector<Symbol> word;
  for (std::uint32_t i = 0; i < ids.size(); ++i) word.push_back({ids[i], i, i + 1});
  return word;
}

/// The rule itself: look for the lowest rank, leftmost first, merge, begin again.
std::vector<Symbol> merged_plainly(std::vector<Symbol> word,
                                   const std::vector<BpeMerges::Pair>& pairs) {
  while (true) {
    std::size_t best = word.size();
    std::size_t best_rank = pairs.size();
    for (std::size_t i = 0; i + 1 < word.size(); ++i) {
      for (std::size_t rank = 0; rank < best_rank; ++rank) {
        if (pairs[rank].left == word[i].id && pairs[rank].right == word[i + 1].id) {
          best = i;
          best_rank = rank;
        }
      }
    }
    if (best == word.size()) return word;
    word[best] = {pairs[best_rank].merged, word[best].begin, word[best + 1].end};
    word.erase(word.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Bpe, merges_the_lowest_rank_and_of_equals_the_leftmost) {
  const BpeMerges merges({{1, 2, 10}, {0, 1, 11}, {3, 3, 12}});
  MergeScratch scratch;
  auto word = word_of({0, 1, 2, 3, 3, 3});
  merges.merge(word, scratch);
  ASSERT_EQ(word.size(), 4U);
  EXPECT_EQ(word[0].id, 0);
  EXPECT_EQ(word[1].id, 10);
  EXPECT_EQ(word[1].begin, 1U);
  EXPECT_EQ(word[1].end, 3U);
  EXPECT_EQ(word[2].id, 12);
  EXPECT_EQ(word[3].id, 3);
}

TEST(Bpe, of_a_pair_written_twice_the_later_place_counts) {
  const BpeMerges merges({{0, 1, 10}, {1, 2, 11}, {0, 1, 10}});
  MergeScratch scratch;
  auto word = word_of({0, 1, 2});
  merges.merge(word, scratch);
  ASSERT_EQ(word.size(), 2U);
  EXPECT_EQ(word[1].id, 11);
}

TEST(Bpe, equals_the_rule_on_random_merges_and_words_of_every_length) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<BpeMerges::Pair> pairs;
    std::map<std::pair<int, int>, bool> seen;
    for (std::int32_t merged = 4; merged < 40; ++merged) {
      const auto pick = [&] { return static_cast<std::int32_t>(random() % unsigned(merged)); };
      const BpeMerges::Pair pair{pick(), pick(), merged};
      if (!std::exchange(seen[{pair.left, pair.right}], true)) pairs.push_back(pair);
    }
    std::shuffle(pairs.begin(), pairs.end(), random);
    std::vector<std::int32_t> ids(random() % 200);
    for (auto& id : ids) id = static_cast<std::int32_t>(random() % 4);
    auto word = word_of(ids);
    const auto expected = merged_plainly(word, pairs);
    MergeScratch scratch;
    BpeMerges(pairs).merge(word, scratch);
    ASSERT_EQ(word.size(), expected.size()) << round;
    for (std::size_t i = 0; i < word.size(); ++i) {
      ASSERT_EQ(word[i].id, expected[i].id);
      ASSERT_EQ(word[i].begin, expected[i].begin);
      ASSERT_EQ(word[i].end, expected[i].end);
    }
  }
}

TEST(Bpe, a_word_of_a_million_symbols_takes_no_quadratic_time) {
  std::vector<BpeMerges::Pair> pairs;
  for (std::int32_t id = 0; id < 16; ++id) pairs.push_back({id, id, id + 1});
  auto word = word_of(std::vector<std::int32_t>(1 << 20, 0));
  MergeScratch scratch;
  const auto start = std::chrono::steady_clock::now();
  BpeMerges(pairs).merge(word, scratch);
  EXPECT_EQ(word.size(), 16U);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

}  // namespace
}  // namespace dfmoa::data
