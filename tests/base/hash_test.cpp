#include "src/base/hash.h"

#include <gtest/gtest.h>

using namespace dfmoa::base;

TEST(Hash128, matches_the_published_value_of_the_empty_input) {
  EXPECT_EQ(hash128("", 0), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash128, streaming_equals_one_shot) {
  const std::string content(1000, 'x');
  Hash128 hash;
  hash.add(content.data(), 300);
  hash.add(content.data() + 300, 700);
  EXPECT_EQ(hash.hex(), hash128(content.data(), content.size()));
}

TEST(Hash128, text_boundaries_count) {
  Hash128 one;
  one.add_text("ab");
  one.add_text("c");
  Hash128 two;
  two.add_text("a");
  two.add_text("bc");
  EXPECT_NE(one.hex(), two.hex());
}
