#include "src/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

using namespace dfmoa::base;

TEST(Philox, known_answers_of_random123) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(KeyedRandom, value_depends_on_seed_key_and_index_only) {
  const KeyedRandom a(7, {1, 2});
  EXPECT_EQ(a.bits(5), KeyedRandom(7, {1, 2}).bits(5));
  EXPECT_NE(a.bits(5), a.bits(6));
  EXPECT_NE(a.bits(5), KeyedRandom(8, {1, 2}).bits(5));
  EXPECT_NE(a.bits(5), KeyedRandom(7, {2, 1}).bits(5));
}

TEST(KeyedRandom, moments_of_uniform_and_normal) {
  const KeyedRandom random(1, {key_word("moments")});
  constexpr int kCount = 20000;
  double uniform = 0;
  double normal = 0;
  double square = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    uniform += random.uniform(i);
    normal += random.normal(i);
    square += random.normal(i) * random.normal(i);
  }
  EXPECT_NEAR(uniform / kCount, 0.5, 0.01);
  EXPECT_NEAR(normal / kCount, 0.0, 0.03);
  EXPECT_NEAR(square / kCount, 1.0, 0.05);
}

TEST(KeyedRandom, permutation_holds_every_index_once) {
  const auto order = permutation(KeyedRandom(3, {}), 100);
  EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), 100U);
  EXPECT_NE(order.front() + order.back(), 99);
  EXPECT_TRUE(permutation(KeyedRandom(3, {}), 0).empty());
}
