// Before anything is written: every entry is listed once, can be stored, and is the same
// everywhere.
#pragma once

#include <string>

#include "distributed/comm/communicator.h"
#include "src/base/state_tree.h"

namespace dfmoa::checkpoints {

inline constexpr const char* kFormatValue = "checkpoint_format";
inline constexpr const char* kStepValue = "checkpoint_step";

/// Looks at the state of `process`, one of `num_processes`, which holds what it owns.
/// Throws ContentError naming the entry or value that cannot be stored (see save_checkpoint).
void check_storable(const base::StateTree& tree, int process, int num_processes);

/// Throws, on every process, ContentError if a process lists other names, types, shapes or owners
/// than process 0, or if check_storable refused the tree of any.
void check_cover(const base::StateTree& tree, comm::Communicator& comm);

}  // namespace dfmoa::checkpoints
