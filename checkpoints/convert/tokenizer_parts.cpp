#include "checkpoints/convert/tokenizer_parts.h"

#include <utility>

namespace dfmoa::checkpoints {

using nlohmann::json;

json added_token_json(const std::string& content, std::int64_t id, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

json byte_level_post_processor() {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", false},
          {"use_regex", true}};
}

json tokenizer_json(TokenizerParts parts) {
  json model{{"type", "BPE"},
             {"dropout", nullptr},
             {"unk_token", nullptr},
             {"continuing_subword_prefix", nullptr},
             {"end_of_word_suffix", nullptr},
             {"fuse_unk", false},
             {"byte_fallback", false},
             {"ignore_merges", parts.rule.ignore_merges},
             {"vocab", std::move(parts.vocabulary)},
             {"merges", std::move(parts.merges)}};
  const json decoder{{"type", "ByteLevel"},
                     {"add_prefix_space", true},
                     {"trim_offsets", true},
                     {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(parts.added_tokens)},
          {"normalizer", std::move(parts.rule.normalizer)},
          {"pre_tokenizer", std::move(parts.rule.pre_tokenizer)},
          {"post_processor", std::move(parts.post_processor)},
          {"decoder", decoder},
          {"model", std::move(model)}};
}

}  // namespace dfmoa::checkpoints
