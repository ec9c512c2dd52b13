// Learning rates as a function of the step.
#pragma once

#include <cstdint>

#include "src/train/config.h"

namespace dfmoa::train {

/// Share of the peak rate that step number `step` (from 0) uses: linear warm-up, then cosine down
/// to final_rate, or constant.
[[nodiscard]] double rate_share(const TrainConfig& config, std::int64_t step);

}  // namespace dfmoa::train
