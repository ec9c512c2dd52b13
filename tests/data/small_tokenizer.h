// A tokenizer small enough to be read: the 256 bytes, 16 merges and one special token.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "src/data/byte_alphabet.h"

namespace dfmoa::data {

inline const std::vector<std::pair<std::string, std::string>>& small_merges() {
  static const std::vector<std::pair<std::string, std::string>> merges = {
      {"t", "h"},   {"th", "e"},  {"Ġ", "the"}, {"i", "n"}, {"a", "n"},  {"Ġ", "Ġ"},
      {"ĠĠ", "ĠĠ"}, {"Ġ", "1"},   {"1", "2"},   {"Ċ", "Ċ"}, {"in", "g"}, {"Ã", "©"},
      {"Ġ", "an"},  {"Ġan", "d"}, {"'", "s"},   {"h", "e"}};
  return merges;
}

inline constexpr int kEndId = 272;  ///< "<|end|>"

/// tokenizer.json with SmolLM's split rule: every \p{N} alone, then GPT-2's pattern.
inline nlohmann::json small_tokenizer_json() {
  using nlohmann::json;
  json vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[written_of_bytes(std::string(1, static_cast<char>(byte)))] = byte;
  }
  int next = 256;
  json merges = json::array();
  for (const auto& [left, right] : small_merges()) {
    vocabulary[left + right] = next++;
    merges.push_back(left + " " + right);
  }
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", json::array({{{"id", kEndId},
                                         {"content", "<|end|>"},
                                         {"single_word", false},
                                         {"lstrip", false},
                                         {"rstrip", false},
                                         {"normalized", false},
                                         {"special", true}}})},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Sequence"}, {"pretokenizers", json::array({digits, byte_level})}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocabulary},
            {"merges", merges}}}};
}

}  // namespace dfmoa::data
