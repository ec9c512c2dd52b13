// Memory, arithmetic and time of a step, predicted from shapes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "distributed/cost_model.h"

namespace dfmoa::distributed {

/// What memory and arithmetic of a step depend on beside its collectives.
struct Workload {
  std::int64_t base_bytes = 0;         ///< of the base model as it is held
  std::int64_t dequantised_bytes = 0;  ///< of the largest weight that lives for one GEMM
  std::int64_t base_weights = 0;       ///< numbers of all linears of one pass, without the head
  std::int64_t vocabulary = 0;
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;
  std::int64_t tokens = 0;  ///< of a micro-batch at most
  bool on_gpu = false;
};
/// `tokens` as configured; an expert whose logits are mixed is a row of its own.
[[nodiscard]] Workload workload_of(const model::BaseModel& base,
                                   const std::vector<BlockLayout>& blocks, std::int64_t tokens,
                                   bool on_gpu);

struct MemoryPart {
  std::string part;
  std::int64_t bytes = 0;
};
/// What a process at `place` holds at the fullest moment of a step:
///   base        the frozen model
///   adapters    value, gradient and two moments of what it owns
///   lent        experts of others while a block runs, or for the step, and their gradients
///   messages    what gathers and scatters are packed into and received in, in host memory
///   sums        gradients that are summed over copies or the world, as many as are under way
///   activations what the blocks keep for their backward, and the work of one block; with
///               move_tokens less than what is really taken
///   scratch     the dense copy of one quantised weight
///   head        a chunk of logits, and the gradient of the stream
///   program     code and libraries: 0.15 GB, on a GPU 1.5 GB of its memory
///   slack       a tenth of all that: allocators round up
/// The last three are rules of thumb, the others follow from what is allocated.
[[nodiscard]] std::vector<MemoryPart> memory_of(const std::vector<BlockLayout>& blocks,
                                                const StepForm& form, const Workload& workload,
                                                int place);
[[nodiscard]] std::int64_t total_of(const std::vector<MemoryPart>& parts);
/// Without slack: what to expect, where the total is what to have.
[[nodiscard]] std::int64_t expected_of(const std::vector<MemoryPart>& parts);

/// Floating point operations in a step of every process of the first copy, by place: of frozen
/// weights forward and for the gradient of their input, of adapters also for their own; a
/// recomputed forward counts again. All are for a process's own tokens, with one exception: with
/// move_tokens a process computes the LoRA experts that it owns, and rows of A that they share, for
/// the tokens that arrive (share_of_tokens). Every token counts as if it bore loss, every row as
/// one document.
[[nodiscard]] std::vector<double> flops_of_step(const std::vector<BlockLayout>& blocks,
                                                const StepForm& form, const Workload& workload);

/// A link between two processes.
struct Link {
  double latency_s = 0;
  double bytes_per_s = 0;
};
/// What a step runs on.
struct Machine {
  Link between_nodes;
  Link inside_node;
  std::int64_t node_size = 1;  ///< neighbouring processes that are joined by `inside_node`
  double flops_per_s = 0;      ///< of a process
};
/// messages * latency + sent bytes / bandwidth, on the slower link that its group needs.
[[nodiscard]] double seconds_of(const Traffic& traffic, const Spread& spread,
                                const Machine& machine);
/// Communication and arithmetic one after the other: an upper bound where they overlap.
[[nodiscard]] double seconds_of_step(const std::vector<Traffic>& traffic, double flops,
                                     const Spread& spread, const Machine& machine);

}  // namespace dfmoa::distributed
