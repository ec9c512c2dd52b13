// What a cut chooses from, and the order in which it keeps directions and dimensions.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "distributed/expert_transport.h"

namespace dfmoa::train {

/// A direction, or a dimension, that may stay.
struct CutCandidate {
  double probability = 1;  ///< rounded to 1e-3, so that noise of the last bits does not decide
  double norm = 0;         ///< |A_n| |B_n|, or of the weights that a dimension connects
  std::int64_t id = 0;
  std::array<std::size_t, 3> place{};  ///< layer, then group and site, or mask
};

/// The candidates of all owners, in the order in which a process that holds everything lists them.
[[nodiscard]] std::vector<CutCandidate> candidates_of_all(std::vector<CutCandidate> held,
                                                          distributed::ExpertTransport& transport);

/// Sorts by probability, norm, then lowest id, and drops what exceeds the budget (0: nothing).
void keep_best(std::vector<CutCandidate>& candidates, std::int64_t budget);

/// Where `id` stands among the ascending ids of a bank. Throws ShapeError if it does not.
[[nodiscard]] std::int64_t position_of(std::int64_t id, const std::vector<std::int64_t>& ids);

}  // namespace dfmoa::train
