#include "checkpoints/convert/gguf_tokenizer.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/convert/tokenizer_parts.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// ggml's numbers of kinds of tokens, as far as they matter here.
enum TokenKind : std::int64_t { kUnknown = 2, kControl = 3, kUserDefined = 4 };

class TokenizerOfGguf {
 public:
  explicit TokenizerOfGguf(const formats::GgufFile& file)
      : file_(file),
        metadata_(file.metadata()),
        where_("converting " + file.path().string()),
        tokens_(metadata_.strings("tokenizer.ggml.tokens")),
        rule_(pre_tokenizer_rule(metadata_.string("tokenizer.ggml.pre"), where_)) {}

  TokenizerFiles read() const;

 private:
  [[noreturn]] void refuse(const std::string& reason) const {
    throw base::ContentError(where_ + ": " + reason);
  }
  [[nodiscard]] bool flag(const std::string& key, bool fallback) const {
    return metadata_.has(key) ? metadata_.flag(key) : fallback;
  }
  [[nodiscard]] bool adds_bos() const {
    return flag("tokenizer.ggml.add_bos_token", rule_.adds_bos);
  }
  [[nodiscard]] std::optional<std::int64_t> id_of(const std::string& name) const;
  [[nodiscard]] std::int64_t needed_id(const std::string& name) const;
  void check_model() const;
  [[nodiscard]] json vocabulary() const;
  [[nodiscard]] json merges() const;
  [[nodiscard]] json added_tokens() const;
  [[nodiscard]] json post_processor() const;
  [[nodiscard]] ordered_json config() const;
  [[nodiscard]] ordered_json generation() const;

  const formats::GgufFile& file_;
  const formats::GgufMetadata& metadata_;
  std::string where_;
  const std::vector<std::string>& tokens_;
  PreTokenizerRule rule_;
};

std::optional<std::int64_t> TokenizerOfGguf::id_of(const std::string& name) const {
  const auto key = "tokenizer.ggml." + name + "_token_id";
  if (!metadata_.has(key)) return {};
  const auto id = metadata_.integer(key);
  const auto count = static_cast<std::int64_t>(tokens_.size());
  if (id < 0 || id >= count) refuse(base::text(key, " is ", id, ", expected 0 to ", count - 1));
  return id;
}

std::int64_t TokenizerOfGguf::needed_id(const std::string& name) const {
  if (const auto id = id_of(name)) return *id;
  refuse(base::text("tokenizer.ggml.", name, "_token_id is missing, and the token is to be added"));
}

void TokenizerOfGguf::check_model() const {
  const auto& model = metadata_.string("tokenizer.ggml.model");
  if (model != "gpt2") {
    refuse("tokenizer.ggml.model is '" + model + "', expected gpt2 (byte-level BPE)");
  }
  if (flag("tokenizer.ggml.add_space_prefix", false)) {
    refuse("tokenizer.ggml.add_space_prefix is true, expected false");
  }
  const auto rows = file_.get("token_embd.weight").rows();
  if (tokens_.size() > static_cast<std::size_t>(rows)) {
    refuse(base::text("tokenizer.ggml.tokens holds ", tokens_.size(), " tokens, expected at most ",
                      rows, ", the rows of token_embd.weight"));
  }
}

json TokenizerOfGguf::vocabulary() const {
  json::object_t ids;
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const auto [place, is_new] = ids.emplace(tokens_[id], id);
    if (!is_new) {
      refuse(base::text("token '", tokens_[id], "' has the ids ", place->second.dump(), " and ", id,
                        ", expected one"));
    }
  }
  return ids;
}

json TokenizerOfGguf::merges() const {
  json list = json::array();
  for (const auto& merge : metadata_.strings("tokenizer.ggml.merges")) {
    if (std::count(merge.begin(), merge.end(), ' ') != 1) {
      refuse(
          base::text("merge ", list.size(), " is '", merge, "', expected two tokens, one blank"));
    }
    list.push_back(merge);
  }
  return list;
}

json TokenizerOfGguf::added_tokens() const {
  const auto kinds = metadata_.integers("tokenizer.ggml.token_type");
  if (kinds.size() != tokens_.size()) {
    refuse(base::text("tokenizer.ggml.token_type holds ", kinds.size(), " numbers, expected ",
                      tokens_.size(), ", one per token"));
  }
  json list = json::array();
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const bool is_special = kinds[id] == kControl || kinds[id] == kUnknown;
    if (!is_special && kinds[id] != kUserDefined) continue;
    list.push_back(added_token_json(tokens_[id], static_cast<std::int64_t>(id), is_special));
  }
  return list;
}

json TokenizerOfGguf::post_processor() const {
  json single = json::array({{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}});
  json pair = json::array({{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                           {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}});
  json special = json::object();
  const auto token_at = [&](std::int64_t id, int type_id) -> json {
    const auto& text = tokens_[static_cast<std::size_t>(id)];
    special[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    return {{"SpecialToken", {{"id", text}, {"type_id", type_id}}}};
  };
  if (adds_bos()) {
    const auto id = needed_id("bos");
    single.insert(single.begin(), token_at(id, 0));
    pair.insert(pair.begin() + 1, token_at(id, 1));
    pair.insert(pair.begin(), token_at(id, 0));
  }
  if (flag("tokenizer.ggml.add_eos_token", false)) {
    const auto id = needed_id("eos");
    single.push_back(token_at(id, 0));
    pair.insert(pair.end() - 1, token_at(id, 0));
    pair.push_back(token_at(id, 1));
  }
  if (special.empty()) return byte_level_post_processor();
  const json around{{"type", "TemplateProcessing"},
                    {"single", single},
                    {"pair", pair},
                    {"special_tokens", special}};
  return {{"type", "Sequence"}, {"processors", {byte_level_post_processor(), around}}};
}

ordered_json TokenizerOfGguf::config() const {
  ordered_json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                      {"clean_up_tokenization_spaces", false},
                      {"add_prefix_space", false},
                      {"add_bos_token", adds_bos()}};
  const auto architecture = metadata_.string("general.architecture");
  config["model_max_length"] = metadata_.integer(architecture + ".context_length");
  for (const auto& [key, name] : {std::pair{"bos_token", "bos"},
                                  {"eos_token", "eos"},
                                  {"unk_token", "unknown"},
                                  {"pad_token", "padding"}}) {
    if (const auto id = id_of(name)) config[key] = tokens_[static_cast<std::size_t>(*id)];
  }
  if (metadata_.has("tokenizer.chat_template")) {
    config["chat_template"] = metadata_.string("tokenizer.chat_template");
  }
  return config;
}

ordered_json TokenizerOfGguf::generation() const {
  ordered_json generation = ordered_json::object();
  if (const auto bos = id_of("bos")) generation["bos_token_id"] = *bos;
  const auto eos = id_of("eos");
  const auto turn = id_of("eot");
  if (eos && turn && *eos != *turn) {
    generation["eos_token_id"] = {*eos, *turn};
  } else if (eos) {
    generation["eos_token_id"] = *eos;
  }
  if (const auto padding = id_of("padding")) generation["pad_token_id"] = *padding;
  return generation;
}

TokenizerFiles TokenizerOfGguf::read() const {
  check_model();
  auto tokenizer =
      tokenizer_json({vocabulary(), merges(), added_tokens(), rule_, post_processor()});
  return {std::move(tokenizer), config(), generation()};
}

}  // namespace

TokenizerFiles read_gguf_tokenizer(const formats::GgufFile& file) {
  return TokenizerOfGguf(file).read();
}

}  // namespace dfmoa::checkpoints
