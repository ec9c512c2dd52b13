#include "src/data/nfc.h"

#include <gtest/gtest.h>

namespace dfmoa::data {
namespace {

std::string composed(std::string_view text) {
  const auto changed = nfc(text);
  return changed ? changed->text : std::string(text);
}

TEST(Nfc, composes_reorders_and_leaves_the_rest_alone) {
  EXPECT_EQ(composed("e\u0301"), "é");
  EXPECT_EQ(composed("a\u0301\u0323"), "\u1EA1\u0301");              // the lower mark comes first
  EXPECT_EQ(composed("\u2126\uFB1D"), "\u03A9\u05D9\u05B4");         // singleton; excluded pair
  EXPECT_EQ(composed("a\u0328\u0328\u0301"), "\u0105\u0328\u0301");  // blocked by its like
  EXPECT_FALSE(nfc("a\u0305\u0301").has_value());  // blocked by a mark of its class
  EXPECT_FALSE(nfc("plain é 日本 \u0651\u0301x").has_value());
  EXPECT_FALSE(nfc("").has_value());
}

TEST(Nfc, computes_hangul) {
  EXPECT_EQ(composed("\u1112\u1161\u11AB"), "한");
  EXPECT_EQ(composed("하\u11AB"), "한");
  EXPECT_EQ(composed("한\u11AB"), "한\u11AB");
  EXPECT_EQ(composed("\u1112\u1161\u11A7"), "하\u11A7");  // 11A7 is before the first tail
}

TEST(Nfc, knows_where_every_byte_comes_from) {
  const auto changed = nfc("xe\u0301y");
  ASSERT_TRUE(changed.has_value());
  using Range = std::pair<std::size_t, std::size_t>;
  EXPECT_EQ(changed->source_of(0, 1), Range(0, 1));
  EXPECT_EQ(changed->source_of(1, 2), Range(1, 4));  // each byte of the composed letter
  EXPECT_EQ(changed->source_of(2, 3), Range(1, 4));
  EXPECT_EQ(changed->source_of(1, 4), Range(1, 5));
}

}  // namespace
}  // namespace dfmoa::data
