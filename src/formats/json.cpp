#include "src/formats/json.h"

#include <set>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::formats {
namespace {

using Json = nlohmann::json;

/// Watches a parse: every object's keys must differ, else the last one would win in silence.
class UniqueKeys {
 public:
  explicit UniqueKeys(const std::string& where) : where_(where) {}

  bool operator()(Json::parse_event_t event, const Json& parsed) {
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::object_end) open_.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open_.back().insert(key).second) {
        throw base::ContentError(
            base::text(where_, ": the key '", key, "' is written twice in one object"));
      }
    }
    return true;
  }

 private:
  const std::string& where_;
  std::vector<std::set<std::string>> open_;
};

/// `words` after `mark`, if it is in there.
std::string_view after(std::string_view words, std::string_view mark) {
  const auto at = words.find(mark);
  return at == std::string_view::npos ? words : words.substr(at + mark.size());
}

/// Without the library's "[json.exception.parse_error.101] "; and without its "parse error at line
/// 1, column 9: " where the text is one line, which may be any line of its file.
std::string reason_of(const Json::exception& error, std::string_view text) {
  const auto words = after(error.what(), "] ");
  const bool is_one_line = text.find('\n') == std::string_view::npos;
  return std::string(is_one_line && words.starts_with("parse error at ") ? after(words, ": ")
                                                                         : words);
}

}  // namespace

Json parse_json_text(std::string_view text, const std::string& where) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    throw base::ContentError(where + " is empty, expected JSON");
  }
  UniqueKeys unique_keys(where);
  try {
    return Json::parse(text.begin(), text.end(),
                       [&](int /*depth*/, Json::parse_event_t event, const Json& parsed) {
                         return unique_keys(event, parsed);
                       });
  } catch (const Json::parse_error& error) {
    throw base::ContentError(base::text(where, ":byte ", error.byte, ": ", reason_of(error, text)));
  } catch (const Json::exception& error) {
    throw base::ContentError(base::text(where, ": ", reason_of(error, text)));
  }
}

Json parse_json(const std::filesystem::path& path) {
  const base::MappedFile file(path);
  const auto bytes = file.bytes();
  return parse_json_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                         path.string());
}

}  // namespace dfmoa::formats
