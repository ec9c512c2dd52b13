#include "src/formats/file_writer.h"

#include <span>
#include <string_view>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

using FileWriter = TemporaryFolder;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST_F(FileWriter, pieces_appear_under_the_name_only_after_commit) {
  const auto path = folder_ / "weights";
  base::write_file(path, "old");
  ReplacedFile file(path);
  file.write(bytes_of("new "));
  file.write(bytes_of("content"));
  EXPECT_EQ(base::read_file(path), "old");
  file.commit();
  EXPECT_EQ(base::read_file(path), "new content");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "weights.tmp"));
}

TEST_F(FileWriter, without_commit_nothing_is_left) {
  { ReplacedFile(folder_ / "weights").write(bytes_of("half")); }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(FileWriter, unwritable_places_are_the_machines) {
  EXPECT_THROW(ReplacedFile(folder_ / "no" / "file"), base::MachineError);
  EXPECT_THROW(write_all(-1, bytes_of("x"), "file"), base::MachineError);
  std::filesystem::create_directories(folder_ / "taken" / "inside");
  ReplacedFile file(folder_ / "taken");
  EXPECT_THROW(file.commit(), base::MachineError);
}

}  // namespace
}  // namespace dfmoa::formats
