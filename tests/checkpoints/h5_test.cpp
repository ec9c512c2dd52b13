#include "checkpoints/h5.h"

#include "checkpoints/manifest.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "tests/checkpoints/damage.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints::h5 {
namespace {

class H5 : public CheckpointFolder {
 protected:
  std::filesystem::path path_ = folder_ / kDataName;

  template <class Body>
  std::string refusal(Body&& body) {
    return sentence_of<base::MachineError>(std::forward<Body>(body));
  }
};

TEST(Chunk, is_never_empty_and_never_larger_than_the_extents) {
  EXPECT_EQ(chunk_of({4, 6}, 4), (Shape{4, 6}));
  EXPECT_EQ(chunk_of({0, 6}, 4), (Shape{1, 6}));
  EXPECT_EQ(chunk_of({0}, 8), (Shape{1}));
  EXPECT_EQ(chunk_of({700, 600}, 4), (Shape{436, 600}));     // 1 MiB / 4 / 600
  EXPECT_EQ(chunk_of({3, 1000000}, 4), (Shape{1, 262144}));  // a row is longer than a chunk
  EXPECT_EQ(chunk_of({2, 3, 1 << 20}, 1), (Shape{1, 1, 1 << 20}));
}

TEST_F(H5, a_flipped_byte_of_the_data_is_found_by_fletcher32_alone) {
  std::vector<float> values(100, 1.5F);
  auto file = File::create(path_);
  const auto extents = file.write_dataset("a", {base::DType::f32, {10, 10}}, values.data());
  file.close();
  ASSERT_EQ(extents.size(), 1U);
  flip_bit(path_, extents[0].offset + 17, 2);
  const auto opened = File::open(path_);
  const auto sentence = refusal([&] {
    opened.read_dataset("a", {base::DType::f32, {10, 10}}, values.data());
  });
  EXPECT_NE(sentence.find("reading dataset a of "), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("checksum"), std::string::npos) << sentence;
}

TEST_F(H5, errors_carry_the_words_of_the_library) {
  base::write_file(path_, "not HDF5");
  EXPECT_NE(refusal([&] { (void)File::create(path_); }).find("exist"), std::string::npos);
  EXPECT_NE(refusal([&] { (void)File::open(path_); }).find("HDF5 says "), std::string::npos);
  EXPECT_NE(refusal([&] { (void)File::open(folder_ / "none"); }).find("No such file"),
            std::string::npos);
}

TEST_F(H5, writing_a_name_twice_is_refused) {
  const std::int64_t number = 1;
  auto file = File::create(path_);
  (void)file.write_dataset("a/b", {base::DType::i64, {1}}, &number);
  EXPECT_NE(refusal([&] {
              (void)file.write_dataset("a/b", {base::DType::i64, {1}}, &number);
            }).find("writing dataset a/b"),
            std::string::npos);
  file.write_value("v", number);
  EXPECT_THROW(file.write_value("v", number), base::MachineError);
}

}  // namespace
}  // namespace dfmoa::checkpoints::h5
