// A model laid out over processes, as those see it who plan: shapes and owners, no tensors.
#pragma once

#include <cstdint>
#include <vector>

#include "distributed/expert_transport.h"
#include "src/base/dtype.h"
#include "src/model/base_model.h"

namespace dfmoa::distributed {

/// A layout of processes, as the costs see it.
struct Spread {
  int processes = 1;
  int expert = 1;  ///< processes that share the experts of one copy
  Transport transport = Transport::replicate;
  bool gathers_steps = true;
  bool keeps_graphs = true;
  bool shards_heads = false;

  [[nodiscard]] bool is_sharded() const { return transport != Transport::replicate; }
  [[nodiscard]] int copies() const { return processes / expert; }
};

/// Throws UsageError for keys that do not go together, processes below 1, and processes that
/// `parallel.expert` does not divide.
[[nodiscard]] Spread spread_of(const ParallelConfig& config, int processes, bool keeps_graphs);

/// One block and who owns what of it.
struct BlockLayout {
  model::BlockAdapters whole;
  model::BlockShape shape;
  BlockOwners owners;
};

/// Of a model that nothing was cut from yet. Throws as Ownership and require_gated_heads.
[[nodiscard]] std::vector<BlockLayout> plan_layout(const std::vector<model::BlockAdapters>& blocks,
                                                   const model::Architecture& architecture,
                                                   const ParallelConfig& config);
/// As a run stands: ranks may have been cut, owners stay.
[[nodiscard]] std::vector<BlockLayout> layout_of(const model::Transformer& model,
                                                 const ExpertTransport& transport);

/// Elements of messages and buffers of one block, for a process at `place` among those that share
/// its experts.
struct LayerRows {
  bool has_parameters = false;
  std::int64_t travelling = 0;  ///< of one owner's gathered message, padded to the largest
  std::int64_t owned = 0;       ///< of the message that the copies of an owner sum
  std::int64_t shared = 0;      ///< of the message that the world sums
  std::int64_t flat = 0;        ///< of each of the four buffers of what is held
  std::int64_t lent = 0;        ///< of the tensors of which rows travel, whole
  std::int64_t whole = 0;       ///< of all trained tensors of the block
};
[[nodiscard]] LayerRows layer_rows(const BlockLayout& block, const Spread& spread, int place,
                                   base::DType dtype);

/// Trained gates of directions (`rank_gate`) or of head dimensions (`dimension_gate`) in the whole
/// model, of the one of those that share a copy's experts who holds the most. 0 where all hold
/// everything.
[[nodiscard]] std::int64_t most_gates(const std::vector<BlockLayout>& blocks, const Spread& spread,
                                      adapters::ParameterGroup kind);

/// The one of those that share a copy's experts who owns the most; 0 where all hold everything.
[[nodiscard]] int heaviest_place(const std::vector<BlockLayout>& blocks, const Spread& spread);

}  // namespace dfmoa::distributed
