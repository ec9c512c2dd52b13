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

/// How often the heads of one layer travel in a step, and what is theirs to carry.
struct HeadTrips {
  std::vector<std::int64_t> tokens_P;  ///< of one micro-batch, on every process
  std::int64_t documents = 0;          ///< of it, on the process in question
  std::int64_t forwards = 1;
  std::int64_t backwards = 1;
  std::int64_t element_bytes = 4;
};
/// What process `place` hands to others for the heads of one layer, as a Recorder counts it. With
/// tokens and heads spread evenly that is
///   (forwards + backwards) * T * (P - 1) / P * (2 H + 2 KV') * C * element_bytes,
/// KV' = KV heads counted once for each process that reads them, and the lengths of documents.
[[nodiscard]] std::int64_t head_bytes(const std::vector<OwnedHeads>& owned, std::int64_t head_dim,
                                      const HeadTrips& trips, int place);

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
