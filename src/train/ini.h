// Configuration files: INI with sections. A comment has a line of its own: what follows a '#' in a
// value belongs to it, which Boost's reader cuts off.
#pragma once

#include <filesystem>
#include <string>

#include "src/train/config.h"

namespace dfmoa::train {

/// Sets every key of an INI text; `where` names it in errors, with the line. Throws UsageError as
/// RunConfig::set, for a line that is no `key = value`, and for a key that is given twice.
void read_ini_text(const std::string& text, const std::string& where, RunConfig& config);

/// The same for a file. Throws UsageError if there is none.
void read_ini(const std::filesystem::path& path, RunConfig& config);

}  // namespace dfmoa::train
