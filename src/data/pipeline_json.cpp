#include "src/data/pipeline_json.h"

#include <string>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {
namespace {

using nlohmann::json;

std::string type_of(const json& value) {
  return value.is_object() ? value.value("type", std::string()) : std::string();
}

SplitBehavior behavior_of(const json& value, const TokenizerSpec& spec) {
  const std::string name = value.value("behavior", std::string());
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  refuse_part(spec.where, "pre_tokenizer.behavior", name,
              "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

void read_split(const json& value, TokenizerSpec& spec) {
  const json& pattern = value.at("pattern");
  std::string regex;
  if (pattern.contains("Regex")) {
    regex = pattern.at("Regex").get<std::string>();
  } else if (pattern.contains("String")) {
    regex = SplitPattern::literal(pattern.at("String").get<std::string>());
  } else {
    refuse_part(spec.where, "pre_tokenizer.pattern", pattern, "Regex or String");
  }
  spec.splits.push_back(
      {SplitPattern(regex), behavior_of(value, spec), value.value("invert", false)});
}

void read_step(const json& value, TokenizerSpec& spec, bool& has_byte_level) {
  const std::string type = type_of(value);
  if (type == "Sequence") {
    for (const json& step : value.at("pretokenizers")) read_step(step, spec, has_byte_level);
    return;
  }
  if (has_byte_level) refuse_part(spec.where, "pre_tokenizer", value, "nothing behind ByteLevel");
  if (type == "Split") {
    read_split(value, spec);
  } else if (type == "Digits") {
    spec.splits.push_back({SplitPattern("\\p{N}"), value.value("individual_digits", false)
                                                       ? SplitBehavior::isolated
                                                       : SplitBehavior::contiguous});
  } else if (type == "ByteLevel") {
    has_byte_level = true;
    if (value.value("add_prefix_space", true)) spec.prefix_step = spec.splits.size();
    if (value.value("use_regex", true)) spec.splits.push_back({SplitPattern(kGpt2Pattern)});
  } else {
    refuse_part(spec.where, "pre_tokenizer", value, "Sequence, Split, Digits or ByteLevel");
  }
}

void read_template(const json& value, TokenizerSpec& spec) {
  bool after_text = false;
  for (const json& part : value.at("single")) {
    if (part.contains("Sequence") && !after_text) {
      after_text = true;
    } else if (part.contains("SpecialToken")) {
      const std::string name = part.at("SpecialToken").at("id").get<std::string>();
      for (const json& id : value.at("special_tokens").at(name).at("ids")) {
        (after_text ? spec.suffix_ids : spec.prefix_ids).push_back(id.get<std::int32_t>());
      }
    } else {
      refuse_part(spec.where, "post_processor.single", part, "special tokens around one Sequence");
    }
  }
  if (!after_text) {
    refuse_part(spec.where, "post_processor.single", value.at("single"), "one Sequence");
  }
}

}  // namespace

void refuse_part(const std::string& where, std::string_view key, const json& value,
                 std::string_view expected) {
  constexpr std::size_t kMostShown = 200;
  std::string shown = value.dump(-1, ' ', true);
  if (shown.size() > kMostShown) shown = shown.substr(0, kMostShown) + "...";
  throw base::ContentError(
      base::text(where, ": ", key, ": ", shown, " is not implemented; expected ", expected));
}

void read_normalizer(const json& value, TokenizerSpec& spec) {
  if (value.is_null()) return;
  if (type_of(value) == "Sequence") {
    for (const json& part : value.at("normalizers")) read_normalizer(part, spec);
  } else if (type_of(value) == "NFC") {
    spec.normalize_nfc = true;
  } else {
    refuse_part(spec.where, "normalizer", value, "null or NFC");
  }
}

void read_pre_tokenizer(const json& value, TokenizerSpec& spec) {
  bool has_byte_level = false;
  if (!value.is_null()) read_step(value, spec, has_byte_level);
  if (!has_byte_level) {
    refuse_part(spec.where, "pre_tokenizer", value, "ByteLevel, alone or last in a Sequence");
  }
}

void read_post_processor(const json& value, TokenizerSpec& spec) {
  const std::string type = type_of(value);
  if (value.is_null() || type == "ByteLevel") return;
  if (type == "Sequence") {
    for (const json& part : value.at("processors")) read_post_processor(part, spec);
  } else if (type == "TemplateProcessing" && spec.prefix_ids.empty() && spec.suffix_ids.empty()) {
    read_template(value, spec);
  } else {
    refuse_part(spec.where, "post_processor", value, "null, ByteLevel or one TemplateProcessing");
  }
}

void check_decoder(const json& value, const TokenizerSpec& spec) {
  if (type_of(value) == "Sequence" && value.at("decoders").size() == 1) {
    check_decoder(value.at("decoders")[0], spec);
  } else if (type_of(value) != "ByteLevel") {
    refuse_part(spec.where, "decoder", value, "ByteLevel");
  }
}

}  // namespace dfmoa::data
