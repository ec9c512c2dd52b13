// What a tokenizer is made of, and its reading from tokenizer.json or vocab.json + merges.txt.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/data/added_tokens.h"
#include "src/data/pre_tokenizer.h"

namespace dfmoa::data {

/// The split pattern of GPT-2, which ByteLevel uses with `use_regex`.
inline constexpr std::string_view kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/// Everything that decides the ids of a text.
struct TokenizerSpec {
  std::vector<std::pair<std::string, std::int32_t>> vocabulary;  ///< as written, with stand-ins
  std::vector<std::pair<std::string, std::string>> merges;       ///< in rank order
  bool ignore_merges = false;            ///< a word that is a token is that token
  std::optional<std::string> unk_token;  ///< for bytes without a token; absent: they are dropped
  bool normalize_nfc = false;
  std::vector<SplitStep> splits;
  std::size_t prefix_step = PreTokenizer::kNoPrefix;
  std::vector<AddedToken> added_tokens;
  std::vector<std::int32_t> prefix_ids;  ///< put before a text when special tokens are asked for
  std::vector<std::int32_t> suffix_ids;  ///< put behind it
  std::string where;                     ///< the file, for errors
};

/// Reads the parts that byte-level BPE tokenizers have: model BPE; normalizer null or NFC;
/// pre-tokenizers Split, Digits and, last, ByteLevel; post-processors ByteLevel and
/// TemplateProcessing; decoder ByteLevel. Truncation and padding are ignored, as transformers does.
/// Throws ContentError naming the key and the value of what is not implemented or malformed.
[[nodiscard]] TokenizerSpec read_tokenizer_json(const std::filesystem::path& path);

/// Reads GPT-2's older files, with the special tokens of tokenizer_config.json, added_tokens.json
/// and special_tokens_map.json where these exist. Throws ContentError when they are malformed.
[[nodiscard]] TokenizerSpec read_vocab_and_merges(const std::filesystem::path& directory);

/// tokenizer.json if there, else vocab.json + merges.txt.
/// Throws UsageError if there is no such directory, ContentError if it holds neither.
[[nodiscard]] TokenizerSpec read_tokenizer_spec(const std::filesystem::path& directory);

}  // namespace dfmoa::data
