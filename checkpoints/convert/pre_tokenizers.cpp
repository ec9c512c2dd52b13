#include "checkpoints/convert/pre_tokenizers.h"

#include <string>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

using nlohmann::json;

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json sequence(const json& first, const json& second) {
  return {{"type", "Sequence"}, {"pretokenizers", {first, second}}};
}

/// The pattern that Llama 3 and Qwen2 share but for the length of a run of digits.
json split_around(const std::string& digits) {
  const auto pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + digits +
                       R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

}  // namespace

PreTokenizerRule pre_tokenizer_rule(std::string_view name, std::string_view where) {
  if (name == "gpt-2") return {byte_level(true), nullptr, false, false};
  if (name == "smollm") {
    // Every digit alone, and before GPT-2's pattern: "  7" must not become one word.
    const json digits{{"type", "Digits"}, {"individual_digits", true}};
    return {sequence(digits, byte_level(true)), nullptr, false, false};
  }
  if (name == "llama-bpe") {
    return {sequence(split_around(R"(\p{N}{1,3})"), byte_level(false)), nullptr, true, true};
  }
  if (name == "qwen2") {
    const json nfc{{"type", "NFC"}};
    return {sequence(split_around(R"(\p{N})"), byte_level(false)), nfc, false, false};
  }
  throw base::ContentError(base::text(where, ": tokenizer.ggml.pre is '", name,
                                      "', expected gpt-2, smollm, llama-bpe or qwen2"));
}

}  // namespace dfmoa::checkpoints
