#include "src/data/token_text.h"

#include "src/base/random.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

class TokenTextTest : public SmallData {
 protected:
  /// What comes out after every byte, one token each, and in the end.
  std::vector<std::string> said(const std::string& bytes) {
    TokenText text(tokenizer());
    std::vector<std::string> parts;
    for (const char byte : bytes) parts.push_back(text.next(static_cast<unsigned char>(byte)));
    parts.push_back(text.rest());
    return parts;
  }
};

TEST_F(TokenTextTest, a_character_comes_with_its_last_byte) {
  EXPECT_EQ(said("a\xC3\xA9z"), (std::vector<std::string>{"a", "", "\xC3\xA9", "z", ""}));
  EXPECT_EQ(said("\xF0\x9F\x99\x82"),
            (std::vector<std::string>{"", "", "", "\xF0\x9F\x99\x82", ""}));
}

TEST_F(TokenTextTest, what_cannot_become_a_character_is_said_at_once) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(said("\x80z"), (std::vector<std::string>{bad, "z", ""}));
  EXPECT_EQ(said("\xC3z"), (std::vector<std::string>{"", bad + "z", ""}));
  EXPECT_EQ(said("\xE2\x82"), (std::vector<std::string>{"", "", bad})) << "cut off";
}

TEST_F(TokenTextTest, all_parts_together_are_the_decoded_text) {
  const std::string alphabet =  // 16 bytes that begin, go on and break characters
      "a\x80\xBF\xC3\xA9\xE2\x82\xAC\xF0\x9F\xED\xA0\xF4\x90\xC0\xFF";
  for (std::uint64_t i = 0; i < 500; ++i) {
    const base::KeyedRandom random(1, {i});
    std::string bytes;
    std::vector<std::int32_t> ids;
    for (std::uint64_t n = 0; n < 12; ++n) {
      const auto at = static_cast<std::size_t>(random.uniform(n) * 16);
      bytes += alphabet[at];
      ids.push_back(static_cast<unsigned char>(alphabet[at]));
    }
    std::string together;
    for (const auto& part : said(bytes)) together += part;
    ASSERT_EQ(together, tokenizer().decode(ids)) << i;
  }
}

TEST_F(TokenTextTest, special_tokens_are_left_out_unless_wanted) {
  TokenText without(tokenizer());
  EXPECT_EQ(without.next(kEndId), "");
  TokenText with(tokenizer(), /*skip_special=*/false);
  EXPECT_EQ(with.next(kEndId), "<|end|>");
}

}  // namespace
}  // namespace dfmoa::data
