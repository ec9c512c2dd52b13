// The ring files of all processes side by side: which process went another way.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "distributed/comm/ring_file.h"

namespace dfmoa::comm {

/// The rings of one run, in process order; a process that left none is missing. Files of processes
/// beyond the number that process 0 wrote down are an older run's and are ignored.
/// Throws UsageError if process 0 left no ring, ContentError as read_ring does.
[[nodiscard]] std::vector<Ring> read_rings(const std::filesystem::path& folder);

/// One sentence per finding, the earliest difference first: a call that differs, a process that
/// never entered or never left a collective, one that was started and not waited for. Says so if
/// all processes agree.
[[nodiscard]] std::vector<std::string> ring_report(const std::vector<Ring>& rings);

}  // namespace dfmoa::comm
