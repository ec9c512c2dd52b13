#include "checkpoints/convert/tokenizer_parts.h"

#include <gtest/gtest.h>

namespace dfmoa::checkpoints {
namespace {

TEST(TokenizerParts, the_file_holds_every_part_at_its_place) {
  const auto file = tokenizer_json({{{"a", 0}, {"b", 1}, {"ab", 2}},
                                    {"a b"},
                                    nlohmann::json::array({added_token_json("<s>", 3, true)}),
                                    pre_tokenizer_rule("llama-bpe", "x"),
                                    byte_level_post_processor()});
  EXPECT_EQ(file["model"]["vocab"]["ab"], 2);
  EXPECT_EQ(file["model"]["merges"][0], "a b");
  EXPECT_EQ(file["model"]["ignore_merges"], true);
  EXPECT_TRUE(file["model"]["unk_token"].is_null());
  EXPECT_EQ(file["added_tokens"][0]["content"], "<s>");
  EXPECT_EQ(file["added_tokens"][0]["normalized"], false);
  EXPECT_EQ(file["pre_tokenizer"]["type"], "Sequence");
  EXPECT_EQ(file["post_processor"]["type"], "ByteLevel");
  EXPECT_EQ(file["decoder"]["type"], "ByteLevel");
}

}  // namespace
}  // namespace dfmoa::checkpoints
