#include "src/formats/gguf.h"

#include "src/base/error.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

class Gguf : public TemporaryFolder {
 protected:
  std::filesystem::path path_ = folder_ / "model.gguf";

  GgufFile open(const GgufBuilder& builder) {
    base::write_file(path_, builder.bytes());
    return GgufFile(path_);
  }
  std::string refusal_of_bytes(const std::string& bytes) {
    base::write_file(path_, bytes);
    return sentence_of<base::ContentError>([&] { GgufFile{path_}; });
  }
  std::string refusal(const GgufBuilder& builder) { return refusal_of_bytes(builder.bytes()); }
};

/// A key of every shape and two tensors, (2, 3) F32 and one row of Q8_0.
GgufBuilder sample() {
  GgufBuilder builder;
  builder.key("u8", 0, raw<std::uint8_t>(200));
  builder.key("i8", 1, raw<std::int8_t>(-3));
  builder.key("u16", 2, raw<std::uint16_t>(60000));
  builder.key("i16", 3, raw<std::int16_t>(-30000));
  builder.key("u32", 4, raw<std::uint32_t>(4000000000));
  builder.key("i32", 5, raw<std::int32_t>(-5));
  builder.key("f32", 6, raw(0.1F));
  builder.key("flag", 7, raw<std::uint8_t>(1));
  builder.key("string", 8, gguf_string("llama"));
  builder.key("u64", 10, raw<std::uint64_t>(1ULL << 40));
  builder.key("i64", 11, raw<std::int64_t>(-1));
  builder.key("f64", 12, raw(0.1));
  builder.list("strings", 8, 2, gguf_string("a") + gguf_string(""));
  builder.list("i32s", 5, 2, raw<std::int32_t>(-1) + raw<std::int32_t>(2));
  builder.list("flags", 7, 1, raw<std::uint8_t>(0));
  builder.entries = {gguf_entry("weight", {3, 2}, 0, 0), gguf_entry("codes", {32}, 8, 32)};
  builder.data = std::string(32, 'w') + std::string(34, 'c');
  return builder;
}

TEST_F(Gguf, metadata_keep_their_types_and_values) {
  const auto file = open(sample());
  const auto& metadata = file.metadata();
  EXPECT_EQ(metadata.integer("u8"), 200);
  EXPECT_EQ(metadata.integer("i8"), -3);
  EXPECT_EQ(metadata.integer("u16"), 60000);
  EXPECT_EQ(metadata.integer("i16"), -30000);
  EXPECT_EQ(metadata.integer("u32"), 4000000000);
  EXPECT_EQ(metadata.integer("i32"), -5);
  EXPECT_EQ(metadata.number("f32"), double{0.1F});
  EXPECT_TRUE(metadata.flag("flag"));
  EXPECT_EQ(metadata.string("string"), "llama");
  EXPECT_EQ(metadata.integer("u64"), 1LL << 40);
  EXPECT_EQ(metadata.integer("i64"), -1);
  EXPECT_EQ(metadata.number("f64"), 0.1);
  EXPECT_EQ(metadata.strings("strings"), (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(metadata.integers("i32s"), (std::vector<std::int64_t>{-1, 2}));
  EXPECT_EQ(metadata.entries().size(), 15U);
}

TEST_F(Gguf, tensors_have_torch_shapes_and_their_bytes) {
  const auto file = open(sample());
  const auto& weight = file.get("weight");
  EXPECT_EQ(weight.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(weight.rows(), 2);
  EXPECT_EQ(weight.columns(), 3);
  EXPECT_EQ(weight.bytes.size(), 24U);
  EXPECT_EQ(weight.bytes.front(), std::byte{'w'});
  EXPECT_EQ(file.get("codes").type, GgufType::q8_0);
  EXPECT_EQ(file.get("codes").bytes.size(), 34U);
  EXPECT_EQ(file.get("codes").bytes.back(), std::byte{'c'});
  EXPECT_EQ(file.find("none"), nullptr);
  EXPECT_TRUE(contains(
      sentence_of<base::ContentError>([&] { static_cast<void>(file.get("none")); }), "'none'"));
}

TEST_F(Gguf, own_alignment_and_version_2_are_read) {
  auto builder = sample();
  builder.version = 2;
  builder.alignment = 64;
  builder.key("general.alignment", 4, raw<std::uint32_t>(64));
  builder.entries = {gguf_entry("weight", {6}, 0, 0)};
  builder.data = std::string(24, 'w');
  EXPECT_EQ(open(builder).get("weight").bytes.front(), std::byte{'w'});
}

TEST_F(Gguf, truncation_at_every_byte_is_refused) {
  const auto whole = sample().bytes();
  for (std::size_t kept = 0; kept < whole.size(); ++kept) {
    write_damaged(path_, whole.substr(0, kept));
    EXPECT_THROW(GgufFile{path_}, base::ContentError) << kept;
  }
}

TEST_F(Gguf, every_damaged_byte_is_read_in_bounds) {
  const auto whole = sample().bytes();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const char value : {'\0', '\x7f', '\xff'}) {
      auto damaged = whole;
      damaged[i] = value;
      write_damaged(path_, damaged);
      try {
        const GgufFile file(path_);
        for (const auto& [name, tensor] : file.tensors()) EXPECT_FALSE(tensor.bytes.empty());
      } catch (const base::ContentError&) {  // refused is as good as read
      }
    }
  }
}

TEST_F(Gguf, foreign_heads_are_refused) {
  EXPECT_THROW(GgufFile{folder_ / "none"}, base::UsageError);
  GgufBuilder builder;
  builder.magic = "PK\x03\x04";
  EXPECT_TRUE(contains(refusal(builder), "no GGUF file"));
  builder.magic = "GGUF";
  builder.version = 1;
  EXPECT_TRUE(contains(refusal(builder), "version 1, expected 2 or 3"));
  builder.version = 3U << 24;
  EXPECT_TRUE(contains(refusal(builder), "big-endian"));
}

TEST_F(Gguf, absurd_counts_and_lengths_are_refused_with_their_numbers) {
  const auto head = std::string("GGUF") + raw<std::uint32_t>(3);
  EXPECT_TRUE(contains(refusal_of_bytes(head + raw<std::uint64_t>(1ULL << 60) + raw(0ULL)),
                       "1152921504606846976 tensors"));
  EXPECT_TRUE(contains(refusal_of_bytes(head + raw(0ULL) + raw<std::uint64_t>(~0ULL)),
                       "18446744073709551615 keys"));
  GgufBuilder builder;
  builder.list("tokens", 8, 1ULL << 61, "");
  EXPECT_TRUE(contains(refusal(builder), "2305843009213693952 items of key 'tokens'"));
  builder.keys.clear();
  builder.key("name", 8, raw<std::uint64_t>(~0ULL - 3));
  EXPECT_TRUE(contains(refusal(builder), "key 'name' takes 18446744073709551612 bytes"));
}

TEST_F(Gguf, malformed_values_are_refused_by_key) {
  const auto one = [&](std::uint32_t type, const std::string& value) {
    GgufBuilder builder;
    builder.key("k", type, value);
    return refusal(builder);
  };
  EXPECT_TRUE(contains(one(13, raw(0ULL)), "key 'k' has the unknown value type 13"));
  EXPECT_TRUE(contains(one(7, raw<std::uint8_t>(2)), "key 'k' is the flag 2"));
  EXPECT_TRUE(contains(one(9, raw<std::uint32_t>(9) + raw(0ULL)), "key 'k' is a list of lists"));
  EXPECT_TRUE(contains(one(9, raw<std::uint32_t>(99) + raw(0ULL)), "unknown value type 99"));
  GgufBuilder builder;
  builder.key("k", 7, raw<std::uint8_t>(1));
  builder.key("k", 7, raw<std::uint8_t>(1));
  EXPECT_TRUE(contains(refusal(builder), "'k' is written twice"));
}

TEST_F(Gguf, malformed_tensors_are_refused_by_name) {
  const auto one = [&](const std::string& entry) {
    GgufBuilder builder;
    builder.entries = {entry};
    builder.data = std::string(64, 'x');
    return refusal(builder);
  };
  EXPECT_TRUE(contains(one(gguf_entry("w", {4}, 99, 0)), "'w' has type 99, expected one of F32"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {33}, 8, 0)), "rows of 33 elements, Q8_0 takes"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {1, 1, 1, 1, 1}, 0, 0)), "has 5 extents"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {1ULL << 63}, 0, 0)), "extent 9223372036854775808"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {0}, 0, 0)), "the extent 0"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {1ULL << 32, 1ULL << 31}, 0, 0)), "expected 1 to 2^63"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {1ULL << 62}, 0, 0)), "exceeds 2^63 - 1 bytes"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {4}, 0, 8)), "byte 8 of the data, expected a multiple"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {17}, 0, 0)), "takes 68 bytes at byte 0"));
  EXPECT_TRUE(contains(one(gguf_entry("w", {4}, 0, 1ULL << 63)), "at byte 9223372036854775808"));
}

TEST_F(Gguf, tensors_that_share_bytes_or_names_are_refused) {
  GgufBuilder builder;
  builder.data = std::string(128, 'x');
  builder.entries = {gguf_entry("b", {8}, 0, 32), gguf_entry("a", {9}, 0, 0)};
  EXPECT_TRUE(contains(refusal(builder), "'b' begins at byte 32 and overlaps 'a', which ends at"));
  builder.entries = {gguf_entry("a", {8}, 0, 0), gguf_entry("a", {8}, 0, 32)};
  EXPECT_TRUE(contains(refusal(builder), "'a' is written twice"));
}

TEST_F(Gguf, alignment_must_be_a_power_of_two) {
  for (const std::uint32_t alignment : {0U, 24U}) {
    GgufBuilder builder;
    builder.key("general.alignment", 4, raw(alignment));
    EXPECT_TRUE(contains(refusal(builder), "expected a power of two"));
  }
}

}  // namespace
}  // namespace dfmoa::formats
