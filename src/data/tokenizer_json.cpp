#include "src/data/tokenizer_json.h"

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/data/pipeline_json.h"
#include "src/data/utf8.h"
#include "src/formats/json.h"

namespace dfmoa::data {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

json value_or_null(const json& object, const char* key) {
  return object.contains(key) ? object.at(key) : json();
}

/// Runs `body`; what the JSON library says of a wrong type or a missing key gets the file's name.
template <class Body>
void reading(const std::string& where, Body&& body) {
  try {
    body();
  } catch (const json::exception& error) {
    throw base::ContentError(base::text(where, ": ", error.what()));
  }
}

void read_vocabulary(const json& value, TokenizerSpec& spec) {
  spec.vocabulary.reserve(value.size());
  for (const auto& [token, id] : value.items()) {
    spec.vocabulary.emplace_back(token, id.get<std::int32_t>());
  }
}

std::pair<std::string, std::string> merge_of_line(std::string_view line, const std::string& where,
                                                  std::size_t number) {
  const std::size_t blank = line.find(' ');
  if (blank == std::string_view::npos || line.find(' ', blank + 1) != std::string_view::npos) {
    throw base::ContentError(
        base::text(where, ": merge ", number, " is '", line, "', expected two tokens and a blank"));
  }
  return {std::string(line.substr(0, blank)), std::string(line.substr(blank + 1))};
}

void read_merges(const json& value, TokenizerSpec& spec) {
  spec.merges.reserve(value.size());
  for (const json& merge : value) {
    if (merge.is_string()) {
      const auto line = merge.get<std::string>();
      spec.merges.push_back(merge_of_line(line, spec.where, spec.merges.size()));
    } else {
      spec.merges.push_back(merge.get<std::pair<std::string, std::string>>());
    }
  }
}

void check_unset(const json& model, const char* key, const TokenizerSpec& spec) {
  const json value = value_or_null(model, key);
  const bool is_unset =
      value.is_null() || value == json("") || value == json(0.0) || value == json(false);
  if (!is_unset) refuse_part(spec.where, base::text("model.", key), value, "null");
}

void read_model(const json& model, TokenizerSpec& spec) {
  if (model.value("type", std::string("BPE")) != "BPE") {
    refuse_part(spec.where, "model.type", model.at("type"), "BPE");
  }
  for (const char* key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    check_unset(model, key, spec);
  }
  spec.ignore_merges = model.value("ignore_merges", false);
  const json unk = value_or_null(model, "unk_token");
  if (!unk.is_null()) {
    spec.unk_token = unk.get<std::string>();
    check_unset(model, "fuse_unk", spec);
  }
  read_vocabulary(model.at("vocab"), spec);
  read_merges(model.at("merges"), spec);
}

AddedToken added_token_of(const json& value, std::int32_t id) {
  AddedToken token;
  token.content = value.at("content").get<std::string>();
  token.id = id;
  token.special = value.value("special", false);
  token.lstrip = value.value("lstrip", false);
  token.rstrip = value.value("rstrip", false);
  token.single_word = value.value("single_word", false);
  token.normalized = value.value("normalized", !token.special);
  return token;
}

void add_once(TokenizerSpec& spec, AddedToken token) {
  for (const AddedToken& present : spec.added_tokens) {
    if (present.content == token.content) return;
  }
  spec.added_tokens.push_back(std::move(token));
}

json parse_if_there(const fs::path& path) {
  return fs::exists(path) ? formats::parse_json(path) : json::object();
}

/// Tokens that the files beside vocab.json call special; the vocabulary or added_tokens.json knows
/// their ids.
void add_named_special_tokens(const json& config, const json& added, TokenizerSpec& spec) {
  std::vector<std::string> names = {"<|endoftext|>"};
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    const json value = value_or_null(config, key);
    if (value.is_string()) names.push_back(value.get<std::string>());
    if (value.is_object()) names.push_back(value.at("content").get<std::string>());
  }
  for (const std::string& name : names) {
    AddedToken token{.content = name, .id = AddedTokens::kNoToken, .special = true};
    if (added.contains(name)) token.id = added.at(name).get<std::int32_t>();
    for (const auto& [text, id] : spec.vocabulary) {
      if (text == name) token.id = id;
    }
    if (token.id != AddedTokens::kNoToken) add_once(spec, token);
  }
}

void read_merges_text(const fs::path& path, TokenizerSpec& spec) {
  const std::string content = base::read_file(path);
  check_utf8(content, path.string());
  std::string_view rest = content;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    spec.merges.push_back(merge_of_line(line, path.string(), spec.merges.size()));
  }
}

}  // namespace

TokenizerSpec read_tokenizer_json(const fs::path& path) {
  TokenizerSpec spec;
  spec.where = path.string();
  const json file = formats::parse_json(path);
  reading(spec.where, [&] {
    read_model(file.at("model"), spec);
    read_normalizer(value_or_null(file, "normalizer"), spec);
    read_pre_tokenizer(value_or_null(file, "pre_tokenizer"), spec);
    read_post_processor(value_or_null(file, "post_processor"), spec);
    check_decoder(value_or_null(file, "decoder"), spec);
    for (const json& token : value_or_null(file, "added_tokens")) {
      add_once(spec, added_token_of(token, token.at("id").get<std::int32_t>()));
    }
  });
  return spec;
}

TokenizerSpec read_vocab_and_merges(const fs::path& directory) {
  TokenizerSpec spec;
  spec.where = (directory / "vocab.json").string();
  json config = parse_if_there(directory / "tokenizer_config.json");
  reading(spec.where, [&] {
    read_vocabulary(formats::parse_json(directory / "vocab.json"), spec);
    read_merges_text(directory / "merges.txt", spec);
    if (config.value("add_prefix_space", false)) spec.prefix_step = 0;
    spec.splits.push_back({SplitPattern(kGpt2Pattern)});
    const json decoder = value_or_null(config, "added_tokens_decoder");
    for (const auto& [id, token] : decoder.items()) {
      add_once(spec, added_token_of(token, std::stoi(id)));
    }
    const json added = parse_if_there(directory / "added_tokens.json");
    add_named_special_tokens(config, added, spec);
    add_named_special_tokens(parse_if_there(directory / "special_tokens_map.json"), added, spec);
    for (const auto& [text, id] : added.items()) {
      add_once(spec, {.content = text, .id = id.get<std::int32_t>(), .normalized = true});
    }
  });
  return spec;
}

TokenizerSpec read_tokenizer_spec(const fs::path& directory) {
  if (!fs::is_directory(directory)) {
    throw base::UsageError(
        base::text("tokenizer: there is no directory '", directory.string(), "'"));
  }
  if (fs::exists(directory / "tokenizer.json")) {
    return read_tokenizer_json(directory / "tokenizer.json");
  }
  if (fs::exists(directory / "vocab.json") && fs::exists(directory / "merges.txt")) {
    return read_vocab_and_merges(directory);
  }
  throw base::ContentError(base::text("'", directory.string(),
                                      "' holds neither tokenizer.json nor vocab.json with "
                                      "merges.txt"));
}

}  // namespace dfmoa::data
