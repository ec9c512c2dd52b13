// The normalizer, pre-tokenizer, post-processor and decoder of a tokenizer.json.
#pragma once

#include <nlohmann/json.hpp>

#include "src/data/tokenizer_json.h"

namespace dfmoa::data {

/// Each reads one value of the file into `spec`. Throws ContentError "file: key: what is not
/// implemented; expected ...".
void read_normalizer(const nlohmann::json& value, TokenizerSpec& spec);
void read_pre_tokenizer(const nlohmann::json& value, TokenizerSpec& spec);
void read_post_processor(const nlohmann::json& value, TokenizerSpec& spec);
void check_decoder(const nlohmann::json& value, const TokenizerSpec& spec);

/// Throws ContentError "where: key: value is not implemented; expected ...".
[[noreturn]] void refuse_part(const std::string& where, std::string_view key,
                              const nlohmann::json& value, std::string_view expected);

}  // namespace dfmoa::data
