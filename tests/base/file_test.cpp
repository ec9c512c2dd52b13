#include "src/base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "src/base/error.h"

using namespace dfmoa::base;
namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  fs::path folder_ = fs::temp_directory_path() / ("dfmoa_file_" + std::to_string(::getpid()));
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
};

TEST_F(FileTest, replaced_file_reads_back_and_leaves_no_temporary) {
  const auto path = folder_ / "latest";
  replace_file(path, "one");
  replace_file(path, "two\n");
  EXPECT_EQ(read_file(path), "two\n");
  EXPECT_FALSE(fs::exists(folder_ / "latest.tmp"));
}

TEST_F(FileTest, empty_file_maps_to_no_bytes) {
  write_file(folder_ / "empty", "");
  EXPECT_TRUE(MappedFile(folder_ / "empty").bytes().empty());
}

TEST_F(FileTest, missing_path_is_the_users_and_a_folder_too) {
  EXPECT_THROW(MappedFile(folder_ / "none"), UsageError);
  EXPECT_THROW(MappedFile{folder_}, UsageError);
}

TEST_F(FileTest, unwritable_place_is_the_machines) {
  EXPECT_THROW(write_file(folder_ / "no" / "file", "x"), MachineError);
}
