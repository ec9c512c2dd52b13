#include "src/formats/byte_cursor.h"

#include "src/base/error.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

const std::filesystem::path kPath = "f.gguf";

TEST(ByteCursor, reads_numbers_and_strings_in_order) {
  const auto bytes = raw<std::uint16_t>(513) + gguf_string("ab") + raw<std::uint64_t>(1) + "x";
  ByteCursor cursor(kPath, std::as_bytes(std::span(bytes)));
  EXPECT_EQ(cursor.number<std::uint16_t>("n"), 513);
  EXPECT_EQ(cursor.string("s"), "ab");
  EXPECT_EQ(cursor.count(1, "items"), 1U);
  EXPECT_EQ(cursor.offset(), 20U);
  EXPECT_EQ(cursor.left(), 1U);
}

TEST(ByteCursor, never_reads_beyond_the_end) {
  const auto bytes = raw<std::uint64_t>(2) + "x";
  const auto refusal = [&](auto&& read) {
    ByteCursor cursor(kPath, std::as_bytes(std::span(bytes)));
    return sentence_of<base::ContentError>([&] { read(cursor); });
  };
  EXPECT_EQ(refusal([](ByteCursor& c) { static_cast<void>(c.string("the name")); }),
            "reading f.gguf: the name takes 2 bytes at byte 8, but the file ends at 9 "
            "(truncated?)");
  EXPECT_EQ(refusal([](ByteCursor& c) { static_cast<void>(c.count(1, "items")); }),
            "reading f.gguf: 2 items at byte 8 cannot fit into the 1 bytes left");
  EXPECT_EQ(refusal([](ByteCursor& c) {
              c.take(8, "head");
              static_cast<void>(c.number<std::uint16_t>("n"));
            }),
            "reading f.gguf: n takes 2 bytes at byte 8, but the file ends at 9 (truncated?)");
}

}  // namespace
}  // namespace dfmoa::formats
