// Cross-entropy while a run trains, in evaluation form, the work shared by all processes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "distributed/comm/communicator.h"
#include "src/data/packing.h"
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

/// Nats per loss-bearing token of a step's micro-batches, as the step shares them out; nothing
/// where no token bears loss. The same on every process.
[[nodiscard]] std::optional<double> cross_entropy(const model::Transformer& model,
                                                  std::span<const data::PackedRow> rows,
                                                  comm::Communicator& comm, const std::string& tag);

}  // namespace dfmoa::train
