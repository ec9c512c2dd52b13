// What a run's steps cost, predicted: memory by part, traffic by collective, arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "distributed/memory_model.h"
#include "src/train/config.h"

namespace dfmoa::train {

/// The form of the collectives of step `step`, counted from 0, in a run whose ranks are cut when
/// their time comes. Throws as distributed::spread_of.
[[nodiscard]] distributed::StepForm step_form(const RunConfig& config, int processes,
                                              std::int64_t step);

struct StepCost {
  distributed::Spread spread;
  std::vector<distributed::MemoryPart> memory;  ///< of the fullest process
  std::vector<distributed::Traffic> traffic;    ///< of process 0
  double flops = 0;  ///< of the process of the first copy that computes the most
  /// How many tokens travel is an expectation: rows are taken to be full and one document each, and
  /// with move_tokens every expert of a sparse gate to be as likely as another.
  bool is_estimate = false;

  [[nodiscard]] std::int64_t bytes() const;
  [[nodiscard]] std::int64_t sent_bytes() const;
};

/// Of the steps of a run that has made `step` of them and stands as `blocks` say: as after the cut
/// of directions, or of dimensions, where some are gone already or its time has come; before, as in
/// the steps from `rank.start` to `rank.cut`. `on_gpu` adds what its libraries take. Throws as
/// step_form.
[[nodiscard]] StepCost cost_of(const RunConfig& config, const model::BaseModel& base,
                               const std::vector<distributed::BlockLayout>& blocks, int processes,
                               bool on_gpu, std::int64_t step = 0);

}  // namespace dfmoa::train
