// The order in which a cut keeps directions and dimensions.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <tuple>
#include <vector>

namespace dfmoa::train {

/// A direction, or a dimension, that may stay.
struct CutCandidate {
  double probability = 1;  ///< rounded to 1e-3, so that noise of the last bits does not decide
  double norm = 0;         ///< |A_n| |B_n|, or of the weights that a dimension connects
  std::int64_t id = 0;
  std::array<std::size_t, 3> place{};  ///< layer, then group and site, or mask
  std::int64_t position = 0;           ///< inside its site, or its mask
};

/// Sorts by probability, norm, then lowest id, and drops what exceeds the budget (0: nothing).
inline void keep_best(std::vector<CutCandidate>& candidates, std::int64_t budget) {
  std::stable_sort(candidates.begin(), candidates.end(), [](const auto& x, const auto& y) {
    return std::tie(y.probability, y.norm, x.id) < std::tie(x.probability, x.norm, y.id);
  });
  const auto limit = static_cast<std::size_t>(budget);
  if (budget > 0 && candidates.size() > limit) candidates.resize(limit);
}

}  // namespace dfmoa::train
