// What a router tells the world about a step: one vector, summed over all micro-batches and
// processes, from which every balance term and entropy weight is computed.
//
//   [ sum p_e | count(w_e > 0) | sum H(p) | sum H(w) | sum tau | units ]        docs/math.md
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace dfmoa::gates {

/// Positions inside the vector of a router with E experts. Only gates with a threshold tell tau.
struct StatisticsLayout {
  std::int64_t experts = 0;
  bool has_threshold = false;

  [[nodiscard]] std::int64_t probability() const { return 0; }
  [[nodiscard]] std::int64_t count() const { return experts; }
  [[nodiscard]] std::int64_t entropy_p() const { return 2 * experts; }
  [[nodiscard]] std::int64_t entropy_w() const { return 2 * experts + 1; }
  [[nodiscard]] std::int64_t threshold() const { return 2 * experts + 2; }
  [[nodiscard]] std::int64_t units() const { return 2 * experts + (has_threshold ? 3 : 2); }
  [[nodiscard]] std::int64_t size() const { return experts == 0 ? 0 : units() + 1; }

  /// What one unit with equal gates would tell.
  [[nodiscard]] std::vector<double> uniform() const;
};

/// Figures of one router's global vector that people read.
struct LoadFigures {
  double entropy = 0;        ///< of the mean gate, nats
  double load_cv = 0;        ///< standard deviation / mean of sum p_e
  double dead_fraction = 0;  ///< experts that no unit used
};
[[nodiscard]] LoadFigures load_figures(std::span<const double> statistics,
                                       const StatisticsLayout& layout);

}  // namespace dfmoa::gates
