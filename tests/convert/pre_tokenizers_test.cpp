#include "checkpoints/convert/pre_tokenizers.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace dfmoa::checkpoints {
namespace {

TEST(PreTokenizers, smollm_splits_digits_before_anything_else) {
  const auto steps = pre_tokenizer_rule("smollm", "x").pre_tokenizer["pretokenizers"];
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(steps[0]["type"], "Digits");
  EXPECT_EQ(steps[0]["individual_digits"], true);
  EXPECT_EQ(steps[1]["type"], "ByteLevel");
  EXPECT_EQ(steps[1]["use_regex"], true);
  EXPECT_EQ(steps[1]["add_prefix_space"], false);
}

TEST(PreTokenizers, llama_and_qwen2_differ_in_digits_merges_and_normal_form) {
  const auto llama = pre_tokenizer_rule("llama-bpe", "x");
  const auto qwen2 = pre_tokenizer_rule("qwen2", "x");
  EXPECT_EQ(llama.pre_tokenizer["pretokenizers"][0]["pattern"]["Regex"],
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
            " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
  EXPECT_EQ(qwen2.pre_tokenizer["pretokenizers"][0]["pattern"]["Regex"],
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
            " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
  EXPECT_EQ(llama.pre_tokenizer["pretokenizers"][1]["use_regex"], false);
  EXPECT_TRUE(llama.ignore_merges);
  EXPECT_TRUE(llama.adds_bos);
  EXPECT_TRUE(llama.normalizer.is_null());
  EXPECT_FALSE(qwen2.ignore_merges);
  EXPECT_FALSE(qwen2.adds_bos);
  EXPECT_EQ(qwen2.normalizer["type"], "NFC");
}

TEST(PreTokenizers, refuses_another_rule_by_name) {
  try {
    static_cast<void>(pre_tokenizer_rule("tekken", "file"));
    FAIL();
  } catch (const base::ContentError& error) {
    EXPECT_STREQ(
        error.what(),
        "file: tokenizer.ggml.pre is 'tekken', expected gpt-2, smollm, llama-bpe or qwen2");
  }
}

}  // namespace
}  // namespace dfmoa::checkpoints
