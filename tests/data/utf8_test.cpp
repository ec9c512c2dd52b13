#include "src/data/utf8.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

TEST(Utf8, accepts_what_is_well_formed_and_stops_at_what_is_not) {
  for (const char* good : {"", "a", "é", "\u0800", "\uD7FF", "\U00010000", "\U0010FFFF"}) {
    EXPECT_EQ(valid_utf8_prefix(good), std::string_view(good).size());
  }
  // Continuation alone, overlong, surrogate, above U+10FFFF, cut off.
  for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80",
                          "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82"}) {
    EXPECT_EQ(valid_utf8_prefix(std::string("12345678é") + bad), 10U);
    EXPECT_THROW(check_utf8(bad, "it"), base::ContentError);
  }
  EXPECT_EQ(formats::sentence_of<base::ContentError>([] { check_utf8("ab\xE2z", "the line"); }),
            "the line: byte 2 of 4 (0xe2) is not part of well-formed UTF-8");
}

TEST(Utf8, finds_code_points_forwards_and_backwards) {
  const std::string_view text = "aé€😀";
  EXPECT_EQ(code_point_at(text, 3).value, U'€');
  EXPECT_EQ(code_point_before(text, 10).value, U'😀');
  EXPECT_EQ(code_point_before(text, 10).length, 4U);
  EXPECT_EQ(code_point_before(text, 1).value, U'a');
}

TEST(Utf8, one_replacement_character_per_ill_formed_part) {
  EXPECT_EQ(with_replacement_characters("a\xE2\x82z\xFF\xFF"), "a\uFFFDz\uFFFD\uFFFD");
  EXPECT_EQ(with_replacement_characters("\xF0\x9F\x98"), "\uFFFD");
  EXPECT_EQ(with_replacement_characters("é"), "é");
}

TEST(Utf8, strips_what_python_strips) {
  EXPECT_EQ(python_strip("\u3000\x1C a b\u200B \n"), "a b\u200B");
  EXPECT_EQ(python_strip(" \u0085\u00a0"), "");
  EXPECT_FALSE(is_white_space(0x180E));
  EXPECT_FALSE(is_white_space(0x1C));
  EXPECT_TRUE(is_white_space(0x2028));
}

}  // namespace
}  // namespace dfmoa::data
