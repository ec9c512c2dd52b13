// Which tokens begin and end a text, from the files beside the tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace dfmoa::data {

struct SpecialIds {
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  std::vector<std::int32_t> stop;  ///< each of them ends a generation; holds eos first
};

/// Token texts of tokenizer_config.json, then of special_tokens_map.json, then the ids of
/// generation_config.json, then of config.json; where several end ids are given, all of them stop
/// and the first trains. `id_of` finds the id of a token text.
/// Throws ContentError when a text is no token of the tokenizer or an id is no number.
[[nodiscard]] SpecialIds read_special_ids(
    const std::filesystem::path& directory,
    const std::function<std::optional<std::int32_t>(std::string_view)>& id_of);

}  // namespace dfmoa::data
