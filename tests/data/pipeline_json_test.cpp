#include "src/data/pipeline_json.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;
using nlohmann::json;

TokenizerSpec empty_spec() {
  TokenizerSpec spec;
  spec.where = "t.json";
  return spec;
}

template <class Read>
std::string refusal(Read read, const char* text) {
  return sentence_of<base::ContentError>([&] {
    TokenizerSpec spec = empty_spec();
    read(json::parse(text), spec);
  });
}

TEST(PipelineJson, reads_sequences_flat_with_byte_level_last) {
  TokenizerSpec spec = empty_spec();
  read_pre_tokenizer(json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed", "invert": true},
      {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": false}]},
      {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true}]})"),
                     spec);
  ASSERT_EQ(spec.splits.size(), 3U);
  EXPECT_EQ(spec.splits[0].behavior, SplitBehavior::removed);
  EXPECT_TRUE(spec.splits[0].invert);
  EXPECT_EQ(spec.splits[1].behavior, SplitBehavior::contiguous);
  EXPECT_EQ(spec.prefix_step, 2U);
}

TEST(PipelineJson, refuses_pre_tokenizers_it_does_not_know) {
  EXPECT_EQ(refusal(read_pre_tokenizer, R"({"type": "Metaspace"})"),
            "t.json: pre_tokenizer: {\"type\":\"Metaspace\"} is not implemented; expected "
            "Sequence, Split, Digits or ByteLevel");
  EXPECT_TRUE(contains(refusal(read_pre_tokenizer, "null"), "expected ByteLevel, alone or last"));
  EXPECT_TRUE(contains(refusal(read_pre_tokenizer, R"({"type": "Sequence", "pretokenizers": [
      {"type": "ByteLevel"}, {"type": "Digits"}]})"),
                       "expected nothing behind ByteLevel"));
  EXPECT_TRUE(contains(refusal(read_pre_tokenizer, R"({"type": "Split", "behavior": "Cut",
      "pattern": {"String": "a"}})"),
                       "pre_tokenizer.behavior: \"Cut\" is not implemented"));
  EXPECT_TRUE(contains(refusal(read_pre_tokenizer, R"({"type": "Split", "pattern": {}})"),
                       "expected Regex or String"));
}

TEST(PipelineJson, normalizers_are_none_or_nfc) {
  TokenizerSpec spec = empty_spec();
  read_normalizer(json(), spec);
  EXPECT_FALSE(spec.normalize_nfc);
  read_normalizer(json::parse(R"({"type": "Sequence", "normalizers": [{"type": "NFC"}]})"), spec);
  EXPECT_TRUE(spec.normalize_nfc);
  EXPECT_EQ(refusal(read_normalizer, R"({"type": "NFKC"})"),
            "t.json: normalizer: {\"type\":\"NFKC\"} is not implemented; expected null or NFC");
}

TEST(PipelineJson, post_processors_put_ids_around_the_text) {
  TokenizerSpec spec = empty_spec();
  read_post_processor(json::parse(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A"}},
                  {"SpecialToken": {"id": "e", "type_id": 0}}],
       "special_tokens": {"s": {"ids": [1, 2]}, "e": {"ids": [3]}}}]})"),
                      spec);
  EXPECT_EQ(spec.prefix_ids, (std::vector<std::int32_t>{1, 2}));
  EXPECT_EQ(spec.suffix_ids, (std::vector<std::int32_t>{3}));
  EXPECT_TRUE(contains(refusal(read_post_processor, R"({"type": "RobertaProcessing"})"),
                       "expected null, ByteLevel or one TemplateProcessing"));
  EXPECT_TRUE(contains(refusal(read_post_processor, R"({"type": "TemplateProcessing", "single":
      [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}]})"),
                       "expected special tokens around one Sequence"));
  EXPECT_TRUE(
      contains(refusal(read_post_processor, R"({"type": "TemplateProcessing", "single": []})"),
               "post_processor.single: [] is not implemented; expected one Sequence"));
}

TEST(PipelineJson, the_decoder_is_byte_level) {
  const auto check = [](const json& value, const TokenizerSpec& spec) {
    check_decoder(value, spec);
  };
  EXPECT_NO_THROW(check_decoder(json::parse(R"({"type": "Sequence", "decoders":
      [{"type": "ByteLevel"}]})"),
                                empty_spec()));
  EXPECT_EQ(refusal(check, "null"), "t.json: decoder: null is not implemented; expected ByteLevel");
}

}  // namespace
}  // namespace dfmoa::data
