#include "src/gates/statistics.h"

#include <cmath>

namespace dfmoa::gates {

std::vector<double> StatisticsLayout::uniform() const {
  const auto count = static_cast<double>(experts);
  std::vector<double> one(static_cast<std::size_t>(size()), 1.0 / count);
  one[static_cast<std::size_t>(entropy_p())] = std::log(count);
  one[static_cast<std::size_t>(entropy_w())] = std::log(count);
  if (has_threshold) one[static_cast<std::size_t>(threshold())] = 0.5 / count;
  one[static_cast<std::size_t>(units())] = 1.0;
  return one;
}

LoadFigures load_figures(std::span<const double> statistics, const StatisticsLayout& layout) {
  LoadFigures figures;
  const auto experts = static_cast<std::size_t>(layout.experts);
  double total = 0;
  for (std::size_t e = 0; e < experts; ++e) total += statistics[e];
  if (total <= 0) return figures;
  const double mean = total / static_cast<double>(experts);
  double variance = 0;
  double dead = 0;
  for (std::size_t e = 0; e < experts; ++e) {
    const double share = statistics[e] / total;
    if (share > 0) figures.entropy -= share * std::log(share);
    variance += (statistics[e] - mean) * (statistics[e] - mean);
    if (statistics[experts + e] == 0) dead += 1;
  }
  figures.load_cv = std::sqrt(variance / static_cast<double>(experts)) / mean;
  figures.dead_fraction = dead / static_cast<double>(experts);
  return figures;
}

}  // namespace dfmoa::gates
