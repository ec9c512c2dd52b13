#include "src/data/special_ids.h"

#include <algorithm>
#include <string>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/json.h"

namespace dfmoa::data {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using IdOf = std::function<std::optional<std::int32_t>(std::string_view)>;

/// The value of `key`; null if the file or the key is not there.
json value_in(const fs::path& path, const std::string& key) {
  if (!fs::exists(path)) return {};
  const json file = formats::parse_json(path);
  return file.is_object() && file.contains(key) ? file.at(key) : json();
}

std::optional<std::int32_t> id_by_text(const fs::path& directory, const std::string& key,
                                       const IdOf& id_of) {
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const fs::path path = directory / name;
    json value = value_in(path, key);
    if (value.is_object() && value.contains("content")) value = json(value.at("content"));
    if (value.is_null()) continue;
    const auto id = value.is_string() ? id_of(value.get<std::string>()) : std::nullopt;
    if (id) return id;
    throw base::ContentError(base::text(path.string(), ": ", key, " is ", value.dump(),
                                        ", which is no token of the tokenizer"));
  }
  return std::nullopt;
}

/// The ids of `key`, one or a list, in the first file that has it.
std::vector<std::int32_t> ids_by_number(const fs::path& directory, const std::string& key) {
  for (const char* name : {"generation_config.json", "config.json"}) {
    const fs::path path = directory / name;
    const json value = value_in(path, key);
    if (value.is_null()) continue;
    std::vector<std::int32_t> ids;
    for (const json& id : value.is_array() ? value : json::array({value})) {
      if (!id.is_number_integer() || id.get<std::int64_t>() < 0 ||
          id.get<std::int64_t>() > INT32_MAX) {
        throw base::ContentError(base::text(path.string(), ": ", key, " is ", value.dump(),
                                            ", expected a token id or a list of them"));
      }
      ids.push_back(id.get<std::int32_t>());
    }
    return ids;
  }
  return {};
}

}  // namespace

SpecialIds read_special_ids(const fs::path& directory, const IdOf& id_of) {
  SpecialIds ids;
  ids.bos = id_by_text(directory, "bos_token", id_of);
  ids.eos = id_by_text(directory, "eos_token", id_of);
  const std::vector<std::int32_t> begins = ids_by_number(directory, "bos_token_id");
  const std::vector<std::int32_t> ends = ids_by_number(directory, "eos_token_id");
  if (!ids.bos && !begins.empty()) ids.bos = begins.front();
  if (!ids.eos && !ends.empty()) ids.eos = ends.front();
  if (ids.eos) ids.stop.push_back(*ids.eos);
  for (const std::int32_t id : ends) {
    if (std::find(ids.stop.begin(), ids.stop.end(), id) == ids.stop.end()) ids.stop.push_back(id);
  }
  return ids;
}

}  // namespace dfmoa::data
