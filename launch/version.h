// What `dfmoa --version` prints.
#pragma once

#include <string>

namespace dfmoa::launch {

/// Versions of dfmoa and of the libraries it is built on, build type and CPU level in use.
[[nodiscard]] std::string version_text();

}  // namespace dfmoa::launch
