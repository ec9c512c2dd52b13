// train --dry-run: what a run would learn from, before it is started.
#pragma once

#include "src/data/loader.h"
#include "src/data/tokenizer.h"
#include "src/train/config.h"

namespace dfmoa::launch {

/// Builds and counts every sample, shows the first three rows of the run with their loss mask, then
/// the resolved configuration. Takes rows from `loader`.
/// Throws ContentError for what training would refuse: broken lines, and documents that are too
/// long wherever they stand.
void print_dry_run(const train::RunConfig& config, const data::Tokenizer& tokenizer,
                   const data::SampleReader& reader, data::Loader& loader);

}  // namespace dfmoa::launch
