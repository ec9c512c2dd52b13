#include "src/formats/safetensors.h"

#include <array>
#include <cstring>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

template <class Container>
std::span<const std::byte> bytes_of(const Container& values) {
  return std::as_bytes(std::span(values));
}

class Safetensors : public TemporaryFolder {
 protected:
  std::filesystem::path path_ = folder_ / "model.safetensors";

  /// Header text and data as they stand, with the right length in front.
  void write_raw(const std::string& header, std::size_t data_bytes) {
    const std::uint64_t length = header.size();
    std::string content(sizeof(length), '\0');
    std::memcpy(content.data(), &length, sizeof(length));
    base::write_file(path_, content + header + std::string(data_bytes, 'x'));
  }
  std::string refusal() {
    return sentence_of<base::ContentError>([&] { SafetensorsFile{path_}; });
  }
  std::string refusal(const std::string& header, std::size_t data_bytes) {
    write_raw(header, data_bytes);
    return refusal();
  }
};

TEST_F(Safetensors, written_tensors_read_back_aligned_and_in_order) {
  const std::array<std::uint8_t, 3> codes{1, 2, 3};
  const std::array<float, 6> weights{1, 2, 3, 4, 5, 6};
  const std::array<double, 1> scalar{0.5};
  const std::vector<TensorView> tensors{{"a.codes", base::DType::u8, {3}, bytes_of(codes)},
                                        {"z.weight", base::DType::f32, {2, 3}, bytes_of(weights)},
                                        {"b", base::DType::f64, {}, bytes_of(scalar)},
                                        {"empty", base::DType::f32, {0, 7}, {}}};
  write_safetensors(path_, tensors);
  const SafetensorsFile file(path_);
  ASSERT_EQ(file.tensors().size(), 4U);
  EXPECT_EQ(file.tensors().begin()->first, "a.codes");
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}}));
  for (const auto& tensor : tensors) {
    const auto& read = file.tensors().at(tensor.name);
    EXPECT_EQ(read.shape, tensor.shape);
    EXPECT_EQ(read.dtype, tensor.dtype);
    EXPECT_TRUE(std::ranges::equal(read.bytes, tensor.bytes)) << tensor.name;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.bytes.data()) % base::size_of(read.dtype), 0U);
  }
}

TEST_F(Safetensors, data_begins_at_a_multiple_of_8_whatever_the_header) {
  for (std::size_t length = 1; length < 10; ++length) {
    const std::array<double, 1> value{2};
    const std::vector<TensorView> tensors{
        {std::string(length, 'n'), base::DType::f64, {1}, bytes_of(value)}};
    write_safetensors(path_, tensors, {});
    const auto content = base::read_file(path_);
    EXPECT_EQ(content.size() % 8, 0U);
    EXPECT_EQ(std::memcmp(content.data() + content.size() - 8, value.data(), 8), 0);
    EXPECT_TRUE(SafetensorsFile(path_).metadata().empty());
  }
}

TEST_F(Safetensors, bool_masks_read_as_bytes) {
  write_raw(R"({"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", 2);
  EXPECT_EQ(SafetensorsFile(path_).tensors().at("mask").dtype, base::DType::u8);
}

TEST_F(Safetensors, pieces_append_in_declared_order_and_appear_when_finished) {
  const std::array<float, 4> values{1, 2, 3, 4};
  const std::vector<TensorSpec> specs{
      {"b", base::DType::f32, {0}}, {"a", base::DType::f32, {2, 2}}, {"c", base::DType::f32, {1}}};
  SafetensorsWriter writer(path_, specs);
  writer.append("a", bytes_of(values).first(5));
  EXPECT_TRUE(contains(sentence_of<base::ShapeError>([&] { writer.append("c", {}); }),
                       "tensor 'c' came while 'a' was due"));
  EXPECT_TRUE(contains(sentence_of<base::ShapeError>([&] { writer.append("a", bytes_of(values)); }),
                       "tensor 'a' got 16 bytes where 11 were left"));
  writer.append("a", bytes_of(values).subspan(5));
  EXPECT_TRUE(contains(sentence_of<base::ShapeError>([&] { writer.finish(); }),
                       "tensor 'c' lacks 4 bytes"));
  writer.append("c", bytes_of(values).first(4));
  EXPECT_FALSE(std::filesystem::exists(path_));
  writer.finish();
  EXPECT_THROW(writer.append("c", {}), base::ShapeError);
  EXPECT_TRUE(std::ranges::equal(SafetensorsFile(path_).tensors().at("a").bytes, bytes_of(values)));
}

TEST_F(Safetensors, writer_refuses_names_and_bytes_that_cannot_be_read_back) {
  const std::array<float, 1> value{1};
  const auto write = [&](const std::vector<TensorView>& tensors) {
    EXPECT_THROW(write_safetensors(path_, tensors), base::ShapeError);
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
  };
  const TensorView good{"a", base::DType::f32, {1}, bytes_of(value)};
  write({good, good});
  write({{"", base::DType::f32, {1}, bytes_of(value)}});
  write({{"__metadata__", base::DType::f32, {1}, bytes_of(value)}});
  write({{"a", base::DType::f32, {-1, -1}, bytes_of(value)}});
  write({{"a", base::DType::f32, {2}, bytes_of(value)}});
  write({{"a", base::DType::f16, {1}, bytes_of(value)}});
  const std::vector<TensorView> tensors{good};
  EXPECT_THROW(write_safetensors(folder_ / "no" / "file", tensors), base::MachineError);
}

TEST_F(Safetensors, header_length_beyond_the_limit_or_the_file_is_refused) {
  base::write_file(path_, "short");
  EXPECT_TRUE(contains(refusal(), "holds 5 bytes"));
  base::write_file(path_, std::string("\0\0\0\x80\0\0\0\0", 8) + "{}");  // 2 GB
  EXPECT_TRUE(contains(refusal(), "claims 2147483648 bytes, at most 100000000"));
  base::write_file(path_, std::string("\x10\0\0\0\0\0\0\0", 8) + "{}");
  EXPECT_TRUE(contains(refusal(), "claims 16 bytes, the file holds 2"));
  base::write_file(path_, std::string("\x03\0\0\0\0\0\0\0", 8) + "{}");
  EXPECT_TRUE(contains(refusal(), "claims 3 bytes, the file holds 2"));
  EXPECT_THROW(SafetensorsFile{folder_ / "none"}, base::UsageError);
}

TEST_F(Safetensors, truncated_data_is_refused_at_every_length) {
  const std::array<float, 4> values{1, 2, 3, 4};
  const std::vector<TensorView> tensors{{"a", base::DType::f32, {4}, bytes_of(values)}};
  write_safetensors(path_, tensors);
  const auto whole = base::read_file(path_);
  for (std::size_t kept = 0; kept < whole.size(); ++kept) {
    write_damaged(path_, whole.substr(0, kept));
    EXPECT_THROW(SafetensorsFile{path_}, base::ContentError) << kept;
  }
}

TEST_F(Safetensors, malformed_headers_are_refused_by_name) {
  EXPECT_TRUE(contains(refusal("[1]", 0), "not a JSON object"));
  EXPECT_TRUE(contains(refusal("{", 0), "(header):byte 2: "));
  EXPECT_TRUE(contains(refusal(R"({"__metadata__":{"a":1}})", 0), "__metadata__ 'a'"));
  EXPECT_TRUE(contains(refusal(R"({"__metadata__":1})", 0), "__metadata__ is not"));
  EXPECT_TRUE(contains(refusal(R"({"w":1})", 0), "tensor 'w': its header entry is not an object"));
  EXPECT_TRUE(contains(refusal(R"({"w":{"dtype":"F32","shape":[1]}})", 4),
                       "tensor 'w': its header entry lacks 'data_offsets'"));
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_TRUE(contains(refusal("{\"w\":" + entry + ",\"w\":" + entry + "}", 4), "'w' is written"));
}

TEST_F(Safetensors, entries_that_disagree_with_themselves_are_refused) {
  const auto entry = [&](const std::string& dtype, const std::string& shape,
                         const std::string& offsets, std::size_t data_bytes) {
    return refusal(R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" +
                       offsets + "}}",
                   data_bytes);
  };
  EXPECT_TRUE(contains(entry(R"("F7")", "[1]", "[0,4]", 4), "tensor 'w': element type 'F7'"));
  EXPECT_TRUE(contains(entry("3", "[1]", "[0,4]", 4), "its dtype is not a string"));
  EXPECT_TRUE(contains(entry(R"("F32")", "[-1]", "[0,4]", 4), "its shape holds -1"));
  EXPECT_TRUE(contains(entry(R"("F32")", "[1.5]", "[0,4]", 4), "its shape holds 1.5"));
  EXPECT_TRUE(contains(entry(R"("F32")", "1", "[0,4]", 4), "its shape is not a list"));
  EXPECT_TRUE(contains(entry(R"("F32")", "[18446744073709551615]", "[0,4]", 4), "the extent 184"));
  EXPECT_TRUE(contains(entry(R"("F32")", "[4611686018427387905]", "[0,4]", 4), "exceeds 64 bits"));
  EXPECT_TRUE(contains(entry(R"("F32")", "[1]", "[0]", 4), "it has 1 offsets"));
  EXPECT_TRUE(contains(entry(R"("F32")", "[2]", "[0,4]", 4),
                       "it holds 4 bytes, but F32 of shape "
                       "(2) takes 8"));
  EXPECT_TRUE(contains(entry(R"("F32")", "[1]", "[4,0]", 4), "offsets 4 to 0 lie outside"));
  EXPECT_TRUE(contains(entry(R"("F32")", "[2]", "[0,8]", 4), "offsets 0 to 8 lie outside the 4"));
}

TEST_F(Safetensors, overlap_hole_and_left_over_bytes_are_refused) {
  const auto two = [&](const std::string& second, std::size_t data_bytes) {
    return refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                   R"("b":{"dtype":"F32","shape":[2],"data_offsets":)" +
                       second + "}}",
                   data_bytes);
  };
  EXPECT_TRUE(
      contains(two("[4,12]", 12), "'b' begins at byte 4 and overlaps 'a', which ends at 8"));
  EXPECT_TRUE(contains(two("[0,8]", 8), "'b' begins at byte 0 and overlaps 'a'"));
  EXPECT_TRUE(contains(two("[12,20]", 20), "bytes 8 to 12 before tensor 'b' are a hole"));
  EXPECT_TRUE(contains(two("[8,16]", 20), "end at byte 16 of the data, the file holds 20"));
}

}  // namespace
}  // namespace dfmoa::formats
