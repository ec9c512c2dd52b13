#include "src/train/ini.h"

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <sstream>

#include "src/base/error.h"
#include "src/base/file.h"

namespace dfmoa::train {

namespace options = boost::program_options;

void read_ini_text(const std::string& text, const std::string& where, RunConfig& config) {
  options::basic_parsed_options<char> parsed(nullptr);
  try {
    std::istringstream stream(text);
    parsed = options::parse_config_file(stream, options::options_description(),
                                        /*allow_unregistered=*/true);
  } catch (const options::error& error) {
    throw base::UsageError(where + ": " + error.what());
  }
  base::with_context(where, [&] {
    for (const auto& option : parsed.options) {
      config.set(option.string_key, option.value.empty() ? std::string() : option.value.front());
    }
  });
}

void read_ini(const std::filesystem::path& path, RunConfig& config) {
  read_ini_text(base::read_file(path), path.string(), config);
}

}  // namespace dfmoa::train
