// Gated attention heads at their owners: slices of queries, keys and values go there, outputs come
// back.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "distributed/comm/communicator.h"
#include "distributed/ownership.h"
#include "src/model/head_exchange.h"

namespace dfmoa::distributed {

/// What one process computes of a layer, from the owners of its query heads.
struct OwnedHeads {
  std::vector<std::int64_t> query;        ///< ascending
  std::vector<std::int64_t> kv;           ///< those that its queries read, each once, ascending
  std::vector<std::int64_t> kv_of_query;  ///< of every query, its place in `kv`

  /// Slices of C elements that every token sends here.
  [[nodiscard]] std::int64_t slices() const {
    return static_cast<std::int64_t>(query.size() + 2 * kv.size());
  }
};
/// One for each process; `head_H` are the owners of the query heads.
[[nodiscard]] std::vector<OwnedHeads> heads_by_owner(const std::vector<int>& head_H,
                                                     std::int64_t kv_heads, int processes);

/// Throws UsageError unless some block has gates of pretrained attention: no other heads move.
void require_gated_heads(const std::vector<model::BlockAdapters>& blocks);

/// Rows that travel are tokens' slices of one head. An owner attends to the rows of all processes
/// as to one packed row of everybody's documents.
class ShardedHeads final : public model::HeadExchange {
 public:
  using OwnersOf = std::function<const BlockOwners&(std::int64_t layer)>;
  ShardedHeads(comm::Communicator& comm, OwnersOf owners)
      : comm_(comm), owners_(std::move(owners)) {}

  [[nodiscard]] at::Tensor attend(std::int64_t layer, const at::Tensor& q_THC,
                                  const at::Tensor& k_TKC, const at::Tensor& v_TKC,
                                  const std::vector<std::int64_t>& begin) override;

 private:
  comm::Communicator& comm_;
  OwnersOf owners_;
};

}  // namespace dfmoa::distributed
