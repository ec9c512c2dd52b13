// The rows of a block's trained tensors by owner, and what of its banks one process holds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "distributed/ownership.h"
#include "src/model/trained_part.h"

namespace dfmoa::distributed {

/// Routers, shared rows of A, new attention projections: every process holds and updates them.
inline constexpr int kHeldByAll = -1;

/// Rows of one parameter that belong to one owner.
struct RowRun {
  std::string parameter;
  std::int64_t begin = 0;  ///< in the parameter of the whole block
  std::int64_t count = 0;
  int owner = kHeldByAll;
  bool of_expert = false;  ///< of a LoRA expert: tokens may be sent to it

  friend bool operator==(const RowRun&, const RowRun&) = default;
};

/// Every row of every parameter exactly once, parameters in their order, rows ascending.
[[nodiscard]] std::vector<RowRun> rows_by_owner(const model::BlockAdapters& whole,
                                                const model::BlockShape& shape,
                                                const BlockOwners& owners);

/// The banks of one owner: experts of others have rank 0, other adapters beside linears are left
/// out, gates of others' heads too.
[[nodiscard]] model::BlockAdapters held_banks(const model::BlockAdapters& whole,
                                              const BlockOwners& owners, int place);

/// The banks that a process computes with to which tokens are sent: the LoRA experts of `held`, the
/// rest of `whole`.
[[nodiscard]] model::BlockAdapters with_held_experts(const model::BlockAdapters& whole,
                                                     const model::BlockAdapters& held);

}  // namespace dfmoa::distributed
