// What a step says to other processes, predicted from shapes: every collective of one process.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "distributed/routed_rows.h"
#include "src/adapters/rank_gate.h"

namespace dfmoa::distributed {

/// What else the collectives of a step depend on.
struct StepForm {
  Spread spread;
  std::int64_t micro_batches = 1;  ///< of the world
  bool lag_one = false;
  base::DType dtype = base::DType::f32;
  adapters::RankPhase phase = adapters::RankPhase::settled;
  adapters::RankPhase dimension_phase = adapters::RankPhase::settled;
  /// Whether all gates of directions, or of dimensions, are compared with a budget after the vote:
  /// processes that share experts tell each other theirs.
  bool compares_directions = false;
  bool compares_dimensions = false;
  std::int64_t vote_figures = 5;  ///< fp64 of C3

  /// Micro-batches of a process, empty slots included.
  [[nodiscard]] std::int64_t slots() const {
    return (micro_batches + spread.processes - 1) / spread.processes;
  }
  /// A forward of its own gives the statistics: they must be there before the first backward.
  [[nodiscard]] bool counts_first() const { return !lag_one && slots() > 1; }
  /// Forward passes of a block in a step.
  [[nodiscard]] std::int64_t forwards() const {
    return slots() * ((spread.keeps_graphs ? 1 : 2) + (counts_first() ? 1 : 0));
  }
};

/// Between whom a collective runs: all; those that share the experts of a copy; those that own the
/// same, one of every copy.
enum class Group { world, experts, copies };

struct PlannedCollective {
  comm::Record record;
  Group group = Group::world;
};

/// In the order in which process `process` issues them, from C0 on. A collective of this list
/// equals the one that the recorder holds after the step, kept elements included. `routing` is
/// asked for move_tokens alone, `rows` for heads that run at their owners.
[[nodiscard]] std::vector<PlannedCollective> collectives_of_step(
    const std::vector<BlockLayout>& blocks, const StepForm& form, int process,
    const Routing& routing, const RowsOfSlot& rows = {});

/// Collectives of one purpose: "C2/gather" of all layers, "C2/tokens/send", "C1".
struct Traffic {
  std::string collective;
  Group group = Group::world;
  std::int64_t calls = 0;
  std::int64_t bytes = 0;       ///< handed to the communicator
  std::int64_t sent_bytes = 0;  ///< of them, to other processes
  std::int64_t messages = 0;    ///< one after the other, as a ring passes them on
};
/// In the order of their first call.
[[nodiscard]] std::vector<Traffic> traffic_of(const std::vector<PlannedCollective>& planned);

}  // namespace dfmoa::distributed
