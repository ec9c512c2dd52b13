#include "src/data/text_file.h"

#include <zstd.h>

#include <array>

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;

std::string packed(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string all_of(const TextFile& file) {
  std::string text(std::size_t{1} << 23, '\0');
  text.resize(file.read(0, text));
  return text;
}

class TextFileTest : public SmallData {};

TEST_F(TextFileTest, reads_at_any_place_and_less_at_the_end) {
  const TextFile file(write("a.txt", "0123456789"), "");
  std::array<char, 4> buffer{};
  EXPECT_EQ(file.read(3, buffer), 4U);
  EXPECT_EQ(std::string(buffer.data(), 4), "3456");
  EXPECT_EQ(file.read(8, buffer), 2U);
  EXPECT_EQ(file.read(10, buffer), 0U);
  EXPECT_EQ(file.stamp().bytes, 10U);
}

TEST_F(TextFileTest, unpacks_several_frames_larger_than_the_buffers) {
  std::string text;
  for (int i = 0; text.size() < 3'000'000; ++i) text += std::to_string(i);
  const TextFile file(write("a.zst", packed(text) + packed("the end")), "");
  EXPECT_TRUE(file.is_packed());
  EXPECT_EQ(all_of(file), text + "the end");
  // One whose packed form fits the first read: what waits inside must come out too.
  const std::string zeros(5'000'000, '0');
  EXPECT_EQ(all_of(TextFile(write("z.zst", packed(zeros)), "")), zeros);
  EXPECT_EQ(TextFile(write("z.zst", packed(zeros)), "").text(), zeros);
  EXPECT_EQ(TextFile(write("empty", ""), "").text(), "");
}

TEST_F(TextFileTest, unpacks_into_the_named_folder_and_leaves_nothing_there) {
  const auto inside = (folder_ / "unpacked").string();
  const TextFile file(write("a.zst", packed("some text")), inside);
  EXPECT_EQ(all_of(file), "some text");
  EXPECT_TRUE(std::filesystem::is_empty(inside));
  const auto blocked = write("file", "");
  const auto sentence =
      sentence_of<base::MachineError>([&] { TextFile(folder_ / "a.zst", blocked); });
  EXPECT_TRUE(contains(sentence, "data.index_dir")) << sentence;
}

/// The last output is full to the brim, and nothing is left inside.
TEST_F(TextFileTest, unpacks_what_ends_with_a_full_buffer) {
  for (const std::size_t bytes : {std::size_t{1} << 20, std::size_t{1} << 21}) {
    const std::string content(bytes, 'x');
    EXPECT_EQ(all_of(TextFile(write("brim.zst", packed(content)), "")), content);
  }
}

TEST_F(TextFileTest, cut_and_broken_streams_are_named) {
  const auto whole = packed(std::string(1000, 'a') + "bcd" + std::string(1000, 'e'));
  const auto cut = write("cut.zst", whole.substr(0, whole.size() - 3));
  EXPECT_TRUE(
      contains(sentence_of<base::ContentError>([&] { TextFile(cut, ""); }), "cut.zst: the zstd"));
  const auto broken = write("broken.zst", "this is no zstd stream");
  EXPECT_TRUE(
      contains(sentence_of<base::ContentError>([&] { TextFile(broken, ""); }), "broken.zst"));
}

TEST_F(TextFileTest, missing_path_and_folder_are_the_users) {
  EXPECT_THROW(TextFile((folder_ / "none").string(), ""), base::UsageError);
  EXPECT_THROW(TextFile(folder_.string(), ""), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::data
