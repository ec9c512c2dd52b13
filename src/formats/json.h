// JSON files, with errors that name the file and the byte.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace dfmoa::formats {

/// The value written in `text`; `where` names it in errors (a path, or path:line).
/// Throws ContentError "where:byte N: reason" if malformed, if a key is written twice in an object,
/// or if anything follows the value.
[[nodiscard]] nlohmann::json parse_json_text(std::string_view text, const std::string& where);

/// The value of a whole file.
/// Throws UsageError if there is no such file, ContentError as parse_json_text.
[[nodiscard]] nlohmann::json parse_json(const std::filesystem::path& path);

}  // namespace dfmoa::formats
