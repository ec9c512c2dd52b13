// One optimiser step's forward and backward: autograd lives inside a block, the trainer walks the
// blocks. Statistics are exact, collectives are visible (docs/architecture.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "distributed/comm/communicator.h"
#include "src/data/packing.h"
#include "src/gates/entropy_weight.h"
#include "src/model/transformer.h"

namespace dfmoa::train {

/// Entropy weights of a block's routers, in the order of the block's statistics.
using BlockEntropy = std::vector<gates::EntropyWeight>;

struct StepOptions {
  bool keep = true;      ///< blocks keep their graphs; else they run forward again in backward
  bool lag_one = false;  ///< balance gradients come from the last step's statistics
};

/// Global figures of a step.
struct StepResult {
  at::Tensor ce_sum;   ///< () fp64, of this process, not yet read: C3 sums it
  double n_loss = 0;   ///< global number of loss-bearing tokens
  double balance = 0;  ///< value of all balance terms at this step's statistics
  std::vector<std::vector<double>> statistics;  ///< per block, summed over the world
};

class Step {
 public:
  Step(model::Transformer& model, std::vector<BlockEntropy>& entropy, comm::Communicator& comm,
       const StepOptions& options);

  /// Gradients of CE / N_loss + balance terms, summed over the world, are in the blocks' buffers
  /// afterwards. `rows` is the global list of micro-batches; this process runs p, p + P, ...
  /// `last_statistics` is what lag_one uses; empty: uniform gates.
  /// Throws ContentError where no row bears loss.
  [[nodiscard]] StepResult run(std::span<const data::PackedRow> rows, const model::StepKey& key,
                               const std::vector<std::vector<double>>& last_statistics);

 private:
  class Walk;
  [[nodiscard]] double global_loss_tokens(std::span<const data::PackedRow> rows) const;
  [[nodiscard]] std::vector<std::vector<double>> sum_over_world(const at::Tensor& statistics) const;
  [[nodiscard]] std::vector<double> kappa(const std::vector<std::vector<double>>& statistics) const;
  [[nodiscard]] double balance_value(const std::vector<std::vector<double>>& statistics) const;
  [[nodiscard]] std::vector<std::vector<double>> uniform_statistics() const;

  model::Transformer& model_;
  std::vector<BlockEntropy>& entropy_;
  comm::Communicator& comm_;
  StepOptions options_;
  double num_routers_ = 0;
};

}  // namespace dfmoa::train
