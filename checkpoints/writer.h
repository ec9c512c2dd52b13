// Saving: one folder per checkpoint that appears whole or not at all. FORMAT.md describes it.
#pragma once

#include <cstdint>
#include <filesystem>

#include "checkpoints/retention.h"
#include "distributed/comm/communicator.h"
#include "src/base/state_tree.h"

namespace dfmoa::checkpoints {

/// Writes `tree` as `checkpoints_folder`/step_N (created if missing) and removes what `retention`
/// does not keep. Every process calls it with the same names, types, shapes and owners, and holds
/// at least what it owns; process 0 writes everything as it arrives (stream_entries), and values as
/// it lists them itself. The files do not depend on who owned what. A folder of the same step is
/// exchanged for the new one.
///
/// The order, so that a kill at any point leaves the checkpoints before it or this one:
/// step_N.tmp/checkpoint.h5 -> fsync file, folder -> all processes report ok -> manifest.json ->
/// fsync -> rename to step_N -> fsync of the parent -> `latest` replaced -> retention.
///
/// Throws  on every process if it fails on any, and leaves the older checkpoints as they were:
///         ContentError for an entry of shape (), without data on its owner, with an owner outside
///         the world, named like a group of another entry, for a value with a reserved name, or if
///         processes list different states; MachineError if writing fails (a full disk).
void save_checkpoint(const std::filesystem::path& checkpoints_folder, const base::StateTree& tree,
                     std::int64_t step, comm::Communicator& comm, const Retention& retention);

}  // namespace dfmoa::checkpoints
