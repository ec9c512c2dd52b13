// How many tokens go to which owner, where tokens are sent to experts.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "distributed/layout.h"

namespace dfmoa::distributed {

/// Gates that a token takes along to the experts of a group, as Block::group_gates lays them side
/// by side; 0: every gate is 1.
[[nodiscard]] std::int64_t gate_columns(const model::BlockAdapters& whole, int group);

/// Tokens of one process that go to owners of a group's experts, by place, and what comes from
/// them.
struct RoutedRows {
  std::vector<std::int64_t> sent, received;
};
/// Of micro-batch `slot` of this process.
using Routing = std::function<RoutedRows(std::int64_t slot, const BlockLayout& block, int group)>;

/// Share of tokens with a gate that is not 0 among the experts that `place` owns in a group. Exact
/// for dense gates and copies of mixed logits (1, 0 and n of E); an expectation for top-k, with
/// every expert as likely as another; 1 for gates behind a threshold, which nobody knows before.
[[nodiscard]] double share_of_tokens(const BlockLayout& block, int group, int place);

/// Where `tokens(place, slot)` is the tokens of a micro-batch: all of them for dense gates, else
/// the expectation, rounded.
[[nodiscard]] Routing expected_routing(
    std::function<std::int64_t(int place, std::int64_t slot)> tokens, int place, int places);

/// Of micro-batch `slot`: tokens of every process that shares the experts, by place, and documents
/// of this one.
struct PeerRows {
  std::vector<std::int64_t> tokens_P;
  std::int64_t documents = 0;
};
using RowsOfSlot = std::function<PeerRows(std::int64_t slot)>;

}  // namespace dfmoa::distributed
