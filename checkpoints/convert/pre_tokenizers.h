// How llama.cpp's names of splitting rules are written in tokenizer.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace dfmoa::checkpoints {

struct PreTokenizerRule {
  nlohmann::json pre_tokenizer;
  nlohmann::json normalizer;   ///< null, or NFC
  bool ignore_merges = false;  ///< a word that is a token is that token
  bool adds_bos = false;       ///< where the file does not say
};

/// gpt-2, smollm, llama-bpe, qwen2. Throws ContentError, `where` first, for another name.
[[nodiscard]] PreTokenizerRule pre_tokenizer_rule(std::string_view name, std::string_view where);

}  // namespace dfmoa::checkpoints
