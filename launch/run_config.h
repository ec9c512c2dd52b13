// A run's configuration as the command line gives it.
#pragma once

#include "launch/options.h"
#include "src/train/config.h"

namespace dfmoa::launch {

/// The option --set, repeatable.
void list_settings(Options& options);

/// The file's keys, then those of --set; not yet validated.
/// Throws UsageError as train::read_ini and RunConfig::set.
[[nodiscard]] train::RunConfig read_run_config(const std::filesystem::path& file,
                                               const Options& options);

/// Throws UsageError for a configuration of which nothing would be trained.
void refuse_without_adapters(const train::RunConfig& config);

}  // namespace dfmoa::launch
