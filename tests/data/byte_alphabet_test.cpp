#include "src/data/byte_alphabet.h"

#include <gtest/gtest.h>

#include <set>

namespace dfmoa::data {
namespace {

TEST(ByteAlphabet, every_byte_has_a_letter_of_its_own_and_back) {
  std::set<std::string> letters;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    const std::string written = written_of_bytes(bytes);
    EXPECT_EQ(bytes_of_written(written), bytes);
    letters.insert(written);
  }
  EXPECT_EQ(letters.size(), 256U);
  EXPECT_EQ(written_of_bytes(" a\n\xA0\xAD\x7F"), "ĠaĊłŃġ");
}

TEST(ByteAlphabet, other_characters_stand_for_nothing) {
  EXPECT_EQ(bytes_of_written("a b"), std::nullopt);
  EXPECT_EQ(bytes_of_written("▁a"), std::nullopt);
  EXPECT_EQ(bytes_of_written("\u0144"), std::nullopt);
  EXPECT_EQ(bytes_of_written(""), "");
}

}  // namespace
}  // namespace dfmoa::data
