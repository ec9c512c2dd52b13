// A state whose arrays lie on several processes, read by process 0 as if it held them all.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "distributed/comm/communicator.h"
#include "src/base/state_tree.h"

namespace dfmoa::checkpoints {

/// What process 0 receives at once: large enough for full speed, small beside any model.
inline constexpr std::size_t kStreamBytes = std::size_t{32} << 20;

/// Collective: calls `visit` on process 0 with every entry of `tree`, in name order, its `data`
/// holding the values of the entry's owner. Entries of process 0 are visited where they lie; those
/// of others arrive in batches of consecutive entries, at most `limit_bytes` each (a larger entry
/// comes alone) and valid during their visit only, at any address: no multiple of the element size.
/// Besides its own entries process 0 holds one batch, an owner its part of one.
///
/// Every process lists the same names, types, shapes and owners (check_cover).
///
/// Throws  on every process if it fails on any, and no entry is visited after that: on process 0
///         what `visit` threw; ContentError for an entry without data on its owner or with an owner
///         outside the world; on the others MachineError.
void stream_entries(const base::StateTree& tree, comm::Communicator& comm, std::size_t limit_bytes,
                    const std::function<void(const base::StateEntry&)>& visit);

/// Collective: XXH3-128 over the name (with its length) and the bytes of every entry in name order,
/// the same on every process and for every spread of the owners.
/// Throws as check_cover and stream_entries do.
[[nodiscard]] std::string hash_of(const base::StateTree& tree, comm::Communicator& comm);

}  // namespace dfmoa::checkpoints
