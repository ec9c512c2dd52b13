#include "src/data/jsonl.h"

#include <zstd.h>

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;

class Jsonl : public SmallData {};

TEST_F(Jsonl, several_files_are_one_sequence_with_their_own_line_numbers) {
  const auto a = write("a.jsonl", "{\"n\": 0}\n\n{\"n\": 1}\n");
  const auto b = write("b.jsonl", "{\"n\": 2}");
  const JsonlFiles files({a, b}, "");
  ASSERT_EQ(files.count(), 3);
  EXPECT_EQ(files.line(1).text, "{\"n\": 1}");
  EXPECT_EQ(files.line(1).where, a + ":3");
  EXPECT_EQ(files.line(2).text, "{\"n\": 2}");
  EXPECT_EQ(files.line(2).where, b + ":1");
  EXPECT_THROW((void)files.line(3), base::ShapeError);
  EXPECT_THROW((void)files.line(-1), base::ShapeError);
}

TEST_F(Jsonl, byte_order_mark_and_crlf_belong_to_no_line) {
  const JsonlFiles files({write("a.jsonl", "\xEF\xBB\xBF{}\r\n{1}\r\n")});
  ASSERT_EQ(files.count(), 2);
  EXPECT_EQ(files.line(0).text, "{}");
  EXPECT_EQ(files.line(1).text, "{1}");
}

TEST_F(Jsonl, packed_file_has_the_same_lines) {
  const std::string text = "{}\n{1}\n{2}\n";
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  const auto path = write("a.jsonl.zst", packed);
  const JsonlFiles files({path}, "");
  ASSERT_EQ(files.count(), 3);
  EXPECT_EQ(files.line(2).text, "{2}");
  EXPECT_EQ(files.line(2).where, path + ":3");
  EXPECT_EQ(files.fingerprint(), JsonlFiles({write("a.jsonl", text)}).fingerprint());
}

TEST_F(Jsonl, files_without_a_line_are_content_errors) {
  for (const std::string content : {"", "\n\r\n  \n", "\xEF\xBB\xBF", "\xEF\xBB\xBF\r\n"}) {
    const auto path = write("empty.jsonl", content);
    const auto sentence = sentence_of<base::ContentError>([&] { JsonlFiles files({path}); });
    EXPECT_TRUE(contains(sentence, path)) << sentence;
  }
  EXPECT_THROW(JsonlFiles({}), base::UsageError);
  EXPECT_THROW(JsonlFiles({}, folder_.string()), base::UsageError);
  EXPECT_THROW(JsonlFiles({(folder_ / "none").string()}), base::UsageError);
}

TEST_F(Jsonl, fingerprint_sees_every_byte_and_the_order_of_files) {
  const auto a = write("a.jsonl", "{}\n");
  const auto b = write("b.jsonl", "{ }\n");
  const auto both = JsonlFiles({a, b}).fingerprint();
  EXPECT_NE(both, JsonlFiles({b, a}).fingerprint());
  EXPECT_NE(JsonlFiles({a}).fingerprint(), JsonlFiles({b}).fingerprint());
  EXPECT_EQ(both, JsonlFiles({a, b}, "").fingerprint()) << "written";
  EXPECT_EQ(both, JsonlFiles({a, b}, "").fingerprint()) << "read";
}

}  // namespace
}  // namespace dfmoa::data
