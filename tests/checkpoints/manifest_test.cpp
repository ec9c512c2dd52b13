#include "checkpoints/manifest.h"

#include <fstream>
#include <limits>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/formats/json.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {
namespace {

class ManifestFile : public CheckpointFolder {
 protected:
  Manifest example() {
    Manifest manifest;
    manifest.step = 7;
    manifest.files[kDataName] = {10, "ab"};
    manifest.datasets["layer/0/A"] = {{base::DType::bf16, {0, 6}}, "cd", {}};
    manifest.datasets["layer/0/B"] = {
        {base::DType::f32, {2, 3}}, "ef", {{{1, 2}, "gh"}, {{std::uint64_t{1} << 40U, 9}, "ij"}}};
    return manifest;
  }
  std::string refusal() {
    return sentence_of<base::ContentError>([&] { (void)read_manifest(folder_); });
  }
};

TEST_F(ManifestFile, what_is_written_is_read) {
  base::write_file(folder_ / kManifestName, manifest_text(example()));
  const auto read = read_manifest(folder_);
  EXPECT_EQ(read.step, 7);
  EXPECT_EQ(read.files.at(kDataName).bytes, 10U);
  EXPECT_EQ(read.datasets.at("layer/0/A").info, (h5::DatasetInfo{base::DType::bf16, {0, 6}}));
  const auto& stored = read.datasets.at("layer/0/B").stored;
  ASSERT_EQ(stored.size(), 2U);
  EXPECT_EQ(stored[1].extent.offset, std::uint64_t{1} << 40U);
  EXPECT_EQ(stored[1].hash, "ij");
  EXPECT_EQ(manifest_text(read), manifest_text(example()));
}

TEST_F(ManifestFile, every_flipped_bit_of_it_is_found) {
  const auto text = manifest_text(example());
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    std::ofstream(folder_ / kManifestName) << damaged;
    EXPECT_NE(refusal().find("first line"), std::string::npos) << i;
  }
}

TEST_F(ManifestFile, one_that_does_not_list_the_data_is_refused) {
  auto manifest = example();
  manifest.files.clear();
  base::write_file(folder_ / kManifestName, manifest_text(manifest));
  EXPECT_NE(refusal().find("does not list checkpoint.h5"), std::string::npos);
}

TEST_F(ManifestFile, every_file_of_it_is_compared) {
  Manifest manifest;
  base::write_file(folder_ / "extra.bin", "0123456789");
  manifest.files["extra.bin"] = record_file(folder_ / "extra.bin", manifest.datasets);
  EXPECT_NO_THROW(verify_files(folder_, manifest));
  base::write_file(folder_ / "extra.bin", "0123456780");
  const auto sentence = sentence_of<base::ContentError>([&] { verify_files(folder_, manifest); });
  EXPECT_NE(sentence.find("extra.bin differs from its checksum"), std::string::npos) << sentence;
}

TEST_F(ManifestFile, an_extent_beyond_the_file_is_damage_and_no_crash) {
  auto manifest = example();
  base::write_file(folder_ / kDataName, "0123456789");
  constexpr auto kHuge = std::numeric_limits<std::uint64_t>::max();
  manifest.datasets["layer/0/B"].stored = {{{kHuge - 1, kHuge}, "gh"}};
  const auto sentence = sentence_of<base::ContentError>([&] { verify_files(folder_, manifest); });
  EXPECT_NE(sentence.find("the damage is in dataset layer/0/B"), std::string::npos) << sentence;
}

TEST(DatasetHash, depends_on_name_type_shape_and_values) {
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const auto hash = [&](const std::string& name, base::DType dtype, h5::Shape shape) {
    return dataset_hash(name, {dtype, std::move(shape)}, values.data());
  };
  const auto first = hash("a", base::DType::f32, {2, 3});
  EXPECT_EQ(first, hash("a", base::DType::f32, {2, 3}));
  EXPECT_NE(first, hash("b", base::DType::f32, {2, 3}));
  EXPECT_NE(first, hash("a", base::DType::i32, {2, 3}));
  EXPECT_NE(first, hash("a", base::DType::f32, {3, 2}));
  EXPECT_EQ(dataset_hash("a", {base::DType::f32, {0, 2}}, nullptr).size(), 32U);
}

}  // namespace
}  // namespace dfmoa::checkpoints
