#include "src/train/schedule.h"

#include <numbers>

namespace dfmoa::train {

double rate_share(const TrainConfig& config, std::int64_t step) {
  const auto warmup = config.warmup_steps();
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (config.schedule == "constant") return 1.0;
  const auto rest = std::max<std::int64_t>(config.steps - warmup, 1);
  const double progress = static_cast<double>(step - warmup) / static_cast<double>(rest);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * std::min(progress, 1.0)));
  return config.final_rate + (1.0 - config.final_rate) * cosine;
}

}  // namespace dfmoa::train
