#include "src/train/ini.h"

#include <set>
#include <sstream>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::train {
namespace {

/// One line: nothing, a [section], or a key that `config` takes.
void read_line(const std::string& line, std::string& section, std::set<std::string>& seen,
               RunConfig& config) {
  if (line.empty() || line.front() == '#' || line.front() == ';') return;
  if (line.front() == '[' && line.back() == ']') {
    section = base::trim(line.substr(1, line.size() - 2));
    return;
  }
  const auto equals = line.find('=');
  if (equals == std::string::npos) {
    throw base::UsageError("'" + line + "': expected [section], key = value or # a comment");
  }
  const auto name = base::trim(line.substr(0, equals));
  const auto key = section.empty() ? name : section + "." + name;
  if (!seen.insert(key).second) throw base::UsageError(key + " is given a second time");
  config.set(key, base::trim(line.substr(equals + 1)));
}

}  // namespace

void read_ini_text(const std::string& text, const std::string& where, RunConfig& config) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  std::istringstream lines(text.starts_with(kByteOrderMark) ? text.substr(3) : text);
  std::string section;
  std::set<std::string> seen;
  std::int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    base::with_context(base::text(where, ":", number),
                       [&] { read_line(base::trim(line), section, seen, config); });
  }
}

void read_ini(const std::filesystem::path& path, RunConfig& config) {
  read_ini_text(base::read_file(path), path.string(), config);
}

}  // namespace dfmoa::train
