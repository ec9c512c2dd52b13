// Cross-entropy on the held-out files while a run trains, the work shared by all processes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "distributed/comm/communicator.h"
#include "src/data/sample.h"
#include "src/model/transformer.h"

namespace dfmoa::train {

/// Nats per token that bears loss; the same on every process, and for any number of them up to the
/// rounding of sums.
struct HeldOut {
  double ce = 0;
  std::map<std::string, double> ce_of_task;  ///< empty where no sample names a task
};

/// Reads every sample of `files` once in rows of `tokens_per_row`; process p runs rows p, p + P, ..
/// Throws as evaluate does, without its generation.
[[nodiscard]] HeldOut evaluate_held_out(const model::Transformer& model,
                                        const data::SampleReader& reader,
                                        const std::vector<std::string>& files,
                                        std::int64_t tokens_per_row, comm::Communicator& comm);

}  // namespace dfmoa::train
