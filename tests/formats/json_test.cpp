#include "src/formats/json.h"

#include "src/base/error.h"
#include "src/base/file.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

using Json = TemporaryFolder;

std::string refusal(std::string_view text) {
  return sentence_of<base::ContentError>([&] { static_cast<void>(parse_json_text(text, "f:3")); });
}

TEST_F(Json, file_reads_as_its_value) {
  base::write_file(folder_ / "config.json", R"({"a": {"x": 1}, "b": {"x": 2}, "c": ["é"]})");
  const auto value = parse_json(folder_ / "config.json");
  EXPECT_EQ(value["b"]["x"], 2);
  EXPECT_EQ(value["c"][0], "é");
}

TEST_F(Json, malformed_text_names_place_and_byte) {
  EXPECT_TRUE(contains(refusal(R"({"a": 1,})"), "f:3:byte 9: "));
  for (const auto* blank : {"", " \n"}) EXPECT_EQ(refusal(blank), "f:3 is empty, expected JSON");
  EXPECT_TRUE(contains(refusal("{} {}"), "f:3:byte 4: "));
  EXPECT_TRUE(contains(refusal("\"\xff\""), "f:3:byte "));
  EXPECT_TRUE(contains(refusal("1e999"), "f:3: "));
}

TEST_F(Json, one_line_has_no_line_number_of_its_own) {
  EXPECT_TRUE(contains(refusal(R"({"a": 1,})"), "f:3:byte 9: syntax error"));
  EXPECT_TRUE(contains(refusal("{\n\"a\": 1,}"), "byte 10: parse error at line 2, column 8: "));
}

TEST_F(Json, key_written_twice_is_refused_at_any_depth) {
  EXPECT_TRUE(contains(refusal(R"({"a": 1, "a": 2})"), "the key 'a' is written twice"));
  EXPECT_TRUE(contains(refusal(R"([{"b": {"c": 1, "c": 1}}])"), "the key 'c' is written twice"));
}

TEST_F(Json, missing_file_is_the_users) {
  EXPECT_THROW(static_cast<void>(parse_json(folder_ / "none.json")), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::formats
