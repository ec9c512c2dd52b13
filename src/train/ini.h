// Configuration files: INI with sections, read by Boost.Program_options.
#pragma once

#include <filesystem>
#include <string>

#include "src/train/config.h"

namespace dfmoa::train {

/// Sets every key of an INI text; `where` names it in errors. Throws UsageError as RunConfig::set,
/// or for a line that is no `key = value`.
void read_ini_text(const std::string& text, const std::string& where, RunConfig& config);

/// The same for a file. Throws UsageError if there is none.
void read_ini(const std::filesystem::path& path, RunConfig& config);

}  // namespace dfmoa::train
