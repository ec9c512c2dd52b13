// The parts of tokenizer.json that every byte-level BPE tokenizer writes alike.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoints/convert/pre_tokenizers.h"

namespace dfmoa::checkpoints {

/// One entry of added_tokens.
[[nodiscard]] nlohmann::json added_token_json(const std::string& content, std::int64_t id,
                                              bool special);

/// The post-processor that adds no token.
[[nodiscard]] nlohmann::json byte_level_post_processor();

struct TokenizerParts {
  nlohmann::json vocabulary;  ///< token -> id
  nlohmann::json merges;      ///< "left right", in rank order
  nlohmann::json added_tokens;
  PreTokenizerRule rule;
  nlohmann::json post_processor;
};

/// The whole file.
[[nodiscard]] nlohmann::json tokenizer_json(TokenizerParts parts);

}  // namespace dfmoa::checkpoints
