// The rank figures of every expert and of every mask of attention, for people and metrics.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "distributed/expert_transport.h"
#include "src/model/transformer.h"

namespace dfmoa::train {

struct ExpertRank {
  std::string site;  ///< "layer/17/q"
  std::int64_t expert = 0;
  std::int64_t rank = 0;    ///< directions that exist
  std::int64_t active = 0;  ///< whose gate is open in evaluation form
  double expected = 0;      ///< E[L0]; equals active for gates without noise
  double spectral = 0;      ///< see adapters::spectral_rank
};

struct DimensionRank {
  std::string name;         ///< "layer/17/dfa/qk"
  std::int64_t total = 0;   ///< dimensions that the mask gates, those that a cut removed included
  std::int64_t active = 0;  ///< whose gate is open in evaluation form
  double expected = 0;      ///< E[L0]; equals active for gates without noise
};

/// Sites in block order, experts in theirs. Reads all adapters on the host. Collective where
/// `transport` shards the experts: every owner tells of its own.
[[nodiscard]] std::vector<ExpertRank> expert_ranks(
    const model::Transformer& model, distributed::ExpertTransport* transport = nullptr);

/// The masks on dimensions of attention heads, in block order.
[[nodiscard]] std::vector<DimensionRank> dimension_ranks(const model::Transformer& model);

}  // namespace dfmoa::train
