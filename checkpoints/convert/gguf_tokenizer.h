// The tokenizer in the metadata of a GGUF file, as the files of a Hugging Face directory.
#pragma once

#include <nlohmann/json.hpp>

#include "src/formats/gguf.h"

namespace dfmoa::checkpoints {

struct TokenizerFiles {
  nlohmann::json tokenizer;           ///< tokenizer.json
  nlohmann::ordered_json config;      ///< tokenizer_config.json, with the chat template
  nlohmann::ordered_json generation;  ///< generation_config.json
};

/// Byte-level BPE with the splitting rules gpt-2, smollm, llama-bpe and qwen2.
/// Throws ContentError naming file, key and value for another model or rule, for lists of unequal
/// length, more tokens than the embedding has rows, a token written twice, a merge that is no pair,
/// and ids beyond the vocabulary.
[[nodiscard]] TokenizerFiles read_gguf_tokenizer(const formats::GgufFile& file);

}  // namespace dfmoa::checkpoints
