#include "src/data/line_index.h"

#include <chrono>
#include <filesystem>

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

namespace fs = std::filesystem;
using formats::contains;
using formats::sentence_of;

class LineIndexTest : public SmallData {
 protected:
  LineIndex stored(const std::string& path, const std::string& index_dir = "") {
    return LineIndex::stored(TextFile(path, ""), index_dir);
  }
  /// A folder of that name stands where the index would lie: even root cannot write there.
  void block_beside(const std::string& path) { fs::create_directories(path + ".dfmoa_index/x"); }
};

TEST_F(LineIndexTest, numbers_lines_as_an_editor_does) {
  const auto path = write("a.jsonl", "\xEF\xBB\xBF{}\r\n\r\n  \n{1}\n{2}");
  const auto index = LineIndex::scan(TextFile(path, ""));
  ASSERT_EQ(index.count(), 3);
  EXPECT_EQ(index.begin(0), 3U);
  EXPECT_EQ(index.number(0), 1U);
  EXPECT_EQ(index.number(1), 4U);
  EXPECT_EQ(index.number(2), 5U);
  EXPECT_EQ(index.end(2), fs::file_size(path));
}

TEST_F(LineIndexTest, lines_across_chunks_are_found) {
  std::string content;
  std::vector<std::uint64_t> begin;
  for (int i = 0; content.size() < 5'000'000; ++i) {
    begin.push_back(content.size());
    content += std::string(static_cast<std::size_t>(i * 7919 % 200'000), i % 2 ? 'x' : ' ') + "y\n";
  }
  const auto index = LineIndex::scan(TextFile(write("a", content), ""));
  ASSERT_EQ(index.count(), static_cast<std::int64_t>(begin.size()));
  for (std::size_t i = 0; i < begin.size(); ++i) {
    EXPECT_EQ(index.begin(static_cast<std::int64_t>(i)), begin[i]);
  }
}

TEST_F(LineIndexTest, stored_index_is_read_again_and_equal) {
  const auto path = write("a.jsonl", "{}\n\n{1}\n");
  const auto first = stored(path);
  ASSERT_TRUE(fs::exists(path + ".dfmoa_index"));
  const auto written = fs::last_write_time(path + ".dfmoa_index");
  const auto second = stored(path);
  EXPECT_EQ(fs::last_write_time(path + ".dfmoa_index"), written);
  ASSERT_EQ(second.count(), first.count());
  for (std::int64_t i = 0; i < first.count(); ++i) {
    EXPECT_EQ(second.begin(i), first.begin(i));
    EXPECT_EQ(second.end(i), first.end(i));
    EXPECT_EQ(second.number(i), first.number(i));
  }
  EXPECT_EQ(second.content_hash(), first.content_hash());
}

TEST_F(LineIndexTest, index_of_another_file_or_a_damaged_one_is_made_anew) {
  const auto path = write("a.jsonl", "{}\n{1}\n");
  (void)stored(path);
  write("a.jsonl", "{}\n{1}\n{2}\n");
  EXPECT_EQ(stored(path).count(), 3);
  const auto written = fs::last_write_time(path);
  write("a.jsonl", "{}\n\n\n\n{12}\n");  // as many bytes as before
  fs::last_write_time(path, written + std::chrono::seconds(1));
  EXPECT_EQ(stored(path).count(), 2);
  write("a.jsonl", "{}\n{1}\n{2}\n");
  fs::last_write_time(path, written + std::chrono::seconds(2));
  EXPECT_EQ(stored(path).count(), 3);
  const auto whole = base::read_file(path + ".dfmoa_index");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    auto damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    formats::write_damaged(path + ".dfmoa_index", damaged);
    const auto index = stored(path);
    ASSERT_EQ(index.count(), 3) << "byte " << i;
    EXPECT_EQ(index.begin(2), 7U) << "byte " << i;
    EXPECT_EQ(index.number(2), 3U) << "byte " << i;
  }
  formats::write_damaged(path + ".dfmoa_index", whole.substr(0, 20));
  EXPECT_EQ(stored(path).count(), 3);
}

TEST_F(LineIndexTest, index_dir_is_used_where_the_files_folder_is_not_writable) {
  const auto path = write("a.jsonl", "{}\n");
  block_beside(path);
  const auto inside = (folder_ / "indices" / "deep").string();
  EXPECT_EQ(stored(path, inside).count(), 1);
  EXPECT_FALSE(fs::is_empty(inside));
  // A file of the same name elsewhere has its own index there.
  fs::create_directories(folder_ / "other");
  const auto other = write("other/a.jsonl", "{}\n{1}\n");
  block_beside(other);
  EXPECT_EQ(stored(other, inside).count(), 2);
  EXPECT_EQ(stored(path, inside).count(), 1);
}

TEST_F(LineIndexTest, no_writable_place_is_an_error_that_names_the_key) {
  const auto path = write("a.jsonl", "{}\n");
  block_beside(path);
  const auto without = sentence_of<base::MachineError>([&] { (void)stored(path); });
  EXPECT_TRUE(contains(without, "data.index_dir")) << without;
  const auto file = write("file", "");
  const auto with = sentence_of<base::MachineError>([&] { (void)stored(path, file); });
  EXPECT_TRUE(contains(with, "data.index_dir = " + file)) << with;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    EXPECT_FALSE(contains(entry.path().string(), "dfmoa_index.")) << "left behind: " << entry;
  }
}

}  // namespace
}  // namespace dfmoa::data
