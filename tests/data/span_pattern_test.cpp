#include "src/data/span_pattern.h"

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;
using Range = std::pair<std::size_t, std::size_t>;

TEST(SpanPattern, group_one_of_the_first_match_in_bytes) {
  EXPECT_EQ(SpanPattern("^<bos>(.)").find("<bos>3:abc="), Range(5, 6));
  EXPECT_EQ(SpanPattern("é(.+?)!").find("aéöü!b!"), Range(3, 7));
  EXPECT_FALSE(SpanPattern("^<bos>(.)").find("x<bos>3"));
  EXPECT_FALSE(SpanPattern("a|(b)").find("a")) << "the group did not take part";
}

TEST(SpanPattern, broken_pattern_or_one_without_group_names_the_key) {
  const auto broken = sentence_of<base::UsageError>([] { SpanPattern("a(b"); });
  EXPECT_TRUE(contains(broken, "data.span = a(b")) << broken;
  const auto without = sentence_of<base::UsageError>([] { SpanPattern("ab"); });
  EXPECT_TRUE(contains(without, "data.span = ab")) << without;
}

TEST(SpanPattern, pattern_that_never_ends_is_stopped) {
  EXPECT_THROW((void)SpanPattern("^((a+)+)+$").find(std::string(60, 'a') + "b"),
               base::ContentError);
}

}  // namespace
}  // namespace dfmoa::data
