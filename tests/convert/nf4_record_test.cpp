#include "checkpoints/convert/nf4_record.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

class Nf4RecordTest : public TemporaryFolder {
 protected:
  /// A weight of 2 x 65: three blocks, the last of two elements.
  formats::SafetensorsFile written(bool double_quant) {
    Nf4Record record("w.weight", {2, 65}, double_quant, base::DType::bf16);
    auto specs = record.body();
    const auto tail = record.tail();
    specs.insert(specs.end(), tail.begin(), tail.end());
    formats::SafetensorsWriter writer(folder_ / "file", specs);
    record.write_maps(writer);
    const std::vector<std::uint8_t> codes(65, 0x12);
    const std::vector<float> absmax{1, 2, 4};
    record.write_piece(writer, std::span(codes).first(64), std::span(absmax).first(2));
    record.write_piece(writer, std::span(codes).last(1), std::span(absmax).last(1));
    record.write_scales(writer);
    record.write_tail(writer);
    writer.finish();
    return formats::SafetensorsFile(folder_ / "file");
  }
  static nlohmann::json state(const formats::SafetensorsFile& file) {
    const auto& view = file.tensors().find("w.weight.quant_state.bitsandbytes__nf4")->second;
    return nlohmann::json::parse(
        reinterpret_cast<const char*>(view.bytes.data()),
        reinterpret_cast<const char*>(view.bytes.data()) + view.bytes.size());
  }
};

TEST_F(Nf4RecordTest, plain_scales_follow_their_codes) {
  const auto file = written(false);
  EXPECT_EQ(file.tensors().size(), 4U);
  EXPECT_EQ(file.tensors().at("w.weight").shape, (std::vector<std::int64_t>{65, 1}));
  const auto& absmax = file.tensors().at("w.weight.absmax");
  EXPECT_EQ(absmax.dtype, base::DType::f32);
  const std::vector<float> expected{1, 2, 4};
  EXPECT_EQ(std::memcmp(absmax.bytes.data(), expected.data(), 12), 0);
  EXPECT_EQ(
      state(file),
      (nlohmann::json{
          {"quant_type", "nf4"}, {"blocksize", 64}, {"dtype", "bfloat16"}, {"shape", {2, 65}}}));
}

TEST_F(Nf4RecordTest, nested_scales_state_their_mean) {
  const auto file = written(true);
  EXPECT_EQ(file.tensors().size(), 6U);
  EXPECT_EQ(file.tensors().at("w.weight.absmax").dtype, base::DType::u8);
  EXPECT_EQ(file.tensors().at("w.weight.absmax").shape, (std::vector<std::int64_t>{3}));
  EXPECT_EQ(file.tensors().at("w.weight.nested_absmax").shape, (std::vector<std::int64_t>{1}));
  EXPECT_EQ(file.tensors().at("w.weight.nested_quant_map").shape, (std::vector<std::int64_t>{256}));
  const auto json = state(file);
  EXPECT_EQ(json["nested_blocksize"], 256);
  EXPECT_EQ(json["nested_dtype"], "float32");
  EXPECT_EQ(json["nested_offset"].get<float>(), 7.0F / 3);
}

}  // namespace
}  // namespace dfmoa::checkpoints
