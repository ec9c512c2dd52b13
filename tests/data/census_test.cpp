#include "src/data/census.h"

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

using formats::contains;

class CensusTest : public SmallData {};

TEST_F(CensusTest, counts_what_a_run_would_see) {
  const auto path = write("a.jsonl",
                          "{\"prompt\": \"xyz\", \"completion\": \"a\", \"span\": [0, 1]}\n"
                          "{broken}\n"
                          "{\"text\": \"xyzxyz\"}\n");
  EXPECT_THROW((void)take_census({path}, reader(config_)), base::ContentError);
  config_.skip_bad_lines = true;
  const auto census = take_census({path}, reader(config_));
  EXPECT_EQ(census.samples, 2);
  EXPECT_EQ(census.bad_lines, 1);
  EXPECT_EQ(census.tokens, 5 + 7);
  EXPECT_EQ(census.loss_tokens, 2 + 6);
  EXPECT_EQ(census.without_span, 1);
  EXPECT_EQ(census.longest, 7);
  EXPECT_EQ(census.longest_where, path + ":3");
  EXPECT_TRUE(contains(census.first_bad, path + ":2")) << census.first_bad;
  const auto sentence = describe(census);
  EXPECT_TRUE(contains(sentence, "2 samples")) << sentence;
  EXPECT_TRUE(contains(sentence, "1 bad lines skipped")) << sentence;
}

}  // namespace
}  // namespace dfmoa::data
