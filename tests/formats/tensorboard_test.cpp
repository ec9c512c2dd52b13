#include "src/formats/tensorboard.h"

#include <cstring>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

using TensorBoard = TemporaryFolder;

TEST_F(TensorBoard, crc32c_of_the_published_vectors) {  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

TEST_F(TensorBoard, scalar_record_is_framed_and_encoded_byte_for_byte) {
  EventWriter writer(folder_);
  const auto before = base::read_file(writer.path()).size();
  writer.scalar("a", 300, 1.0F, 2.0);
  writer.flush();
  const auto record = base::read_file(writer.path()).substr(before);
  const std::string event(
      "\x09\0\0\0\0\0\0\0\x40"  // wall_time 2.0
      "\x10\xac\x02"            // step 300
      "\x2a\x0a\x0a\x08"        // summary, value
      "\x0a\x01"
      "a"
      "\x15\0\0\x80\x3f",
      24);
  std::uint64_t length = 0;
  std::memcpy(&length, record.data(), sizeof(length));
  EXPECT_EQ(length, event.size());
  ASSERT_EQ(record.size(), event.size() + 16);
  EXPECT_EQ(record.substr(12, event.size()), event);
}

TEST_F(TensorBoard, scalars_are_in_the_file_before_any_flush) {
  EventWriter writer(folder_ / "made" / "here");
  const auto before = std::filesystem::file_size(writer.path());
  EXPECT_GT(before, 16U);  // the version record
  writer.scalar("train/loss", 1, 0.5F, 0);
  EXPECT_GT(std::filesystem::file_size(writer.path()), before);
}

TEST_F(TensorBoard, two_writers_of_one_second_take_two_files) {
  const EventWriter one(folder_);
  const EventWriter two(folder_);
  EXPECT_NE(one.path(), two.path());
}

TEST_F(TensorBoard, unwritable_folder_is_the_machines) {
  base::write_file(folder_ / "file", "");
  EXPECT_THROW(EventWriter(folder_ / "file" / "events"), base::MachineError);
}

}  // namespace
}  // namespace dfmoa::formats
