#include "checkpoints/convert/weight_file.h"

#include <cstring>

#include "kernels/cpu_level.h"
#include "kernels/nf4.h"
#include "src/base/error.h"
#include "src/formats/safetensors.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

using WeightFile = TemporaryFolder;

float value_at(std::int64_t i) {
  return static_cast<float>(i * 7919 % 1009) / 100 - 5;
}

SourceTensor counting(const std::string& name, std::vector<std::int64_t> shape, bool is_linear) {
  const auto columns = shape.back();
  return {name, std::move(shape), is_linear,
          [columns](std::int64_t begin, std::int64_t end, float* out) {
            for (auto i = begin * columns; i < end * columns; ++i) *out++ = value_at(i);
          }};
}

/// Longer than one piece, with a last block that is short.
const std::vector<std::int64_t> kLong{10001, 513};

TEST_F(WeightFile, pieces_join_into_the_whole_tensor) {
  const std::vector<SourceTensor> tensors{counting("a", kLong, true), counting("b", {3}, false)};
  write_weights(folder_ / "file", tensors, {});
  const formats::SafetensorsFile file(folder_ / "file");
  const auto& view = file.tensors().at("a");
  ASSERT_EQ(view.shape, kLong);
  for (std::int64_t i = 0; i < base::count_of(kLong); ++i) {
    float value = 0;
    std::memcpy(&value, view.bytes.data() + i * 4, 4);
    ASSERT_EQ(value, value_at(i)) << i;
  }
}

TEST_F(WeightFile, nf4_in_pieces_equals_nf4_at_once) {
  const std::vector<SourceTensor> tensors{counting("a", kLong, true), counting("b", {3}, false)};
  write_weights(folder_ / "file", tensors, {.nf4 = true});
  const auto count = base::count_of(kLong);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = value_at(i);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>((count + 1) / 2));
  std::vector<float> absmax(static_cast<std::size_t>((count + 63) / 64));
  ASSERT_TRUE(kernels::nf4_quantize(values.data(), count, 64, codes.data(), absmax.data(),
                                    kernels::cpu_level()));
  const formats::SafetensorsFile file(folder_ / "file");
  const auto& stored = file.tensors().at("a").bytes;
  const auto& scales = file.tensors().at("a.absmax").bytes;
  ASSERT_EQ(stored.size(), codes.size());
  ASSERT_EQ(scales.size(), absmax.size() * 4);
  EXPECT_EQ(std::memcmp(stored.data(), codes.data(), codes.size()), 0);
  EXPECT_EQ(std::memcmp(scales.data(), absmax.data(), scales.size()), 0);
  EXPECT_EQ(file.tensors().at("b").dtype, base::DType::f32);
}

TEST_F(WeightFile, every_tensor_is_aligned_to_its_type) {
  std::vector<SourceTensor> tensors;
  for (int i = 0; i < 5; ++i) {  // an odd number of odd norms: 30 bytes of bf16
    tensors.push_back(counting("linear" + std::to_string(i), {9, 64}, true));
    tensors.push_back(counting("norm" + std::to_string(i), {3}, false));
  }
  for (const auto dtype : {base::DType::f32, base::DType::bf16}) {
    for (const bool nested : {false, true}) {
      write_weights(folder_ / "file", tensors, {dtype, true, nested, "x"});
      const formats::SafetensorsFile file(folder_ / "file");
      for (const auto& [name, view] : file.tensors()) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.bytes.data()) % base::size_of(view.dtype),
                  0U)
            << name;
      }
    }
  }
}

TEST_F(WeightFile, names_source_and_tensor_of_a_value_that_is_not_finite) {
  for (const bool nf4 : {false, true}) {
    const std::vector<SourceTensor> tensors{
        {"bad", {2, 70}, true, [](auto begin, auto end, float* out) {
           std::fill_n(out, (end - begin) * 70, 1.0F);
           out[69] = std::numeric_limits<float>::infinity();
         }}};
    const auto sentence = sentence_of<base::ContentError>(
        [&] { write_weights(folder_ / "file", tensors, {.nf4 = nf4, .source = "here"}); });
    EXPECT_EQ(sentence, "converting here: tensor 'bad' holds NaN or infinity");
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
  }
}

TEST_F(WeightFile, an_error_of_the_reader_comes_through) {
  const std::vector<SourceTensor> tensors{
      counting("a", kLong, false),
      {"b", {1}, false, [](auto, auto, float*) { throw base::MachineError("gone"); }}};
  EXPECT_THROW(write_weights(folder_ / "file", tensors, {}), base::MachineError);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_THROW(write_weights(folder_ / "none" / "file", {}, {}), base::MachineError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
