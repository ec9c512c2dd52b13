// One optimiser step's forward and backward: autograd lives inside a block, the trainer walks the
// blocks. Statistics are exact, collectives are visible (docs/architecture.md).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "distributed/expert_transport.h"
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

/// E[L0] of directions, then of head dimensions.
using ExpectedRank = std::array<double, 2>;

/// Global figures of a step.
struct StepResult {
  at::Tensor ce_sum;   ///< () fp64, of this process, not yet read: C3 sums it
  double n_loss = 0;   ///< global number of loss-bearing tokens
  double balance = 0;  ///< value of all balance terms at this step's statistics
  std::vector<std::vector<double>> statistics;  ///< per block, summed over the world
  ExpectedRank expected{};                      ///< summed over the world
};

class Step {
 public:
  Step(model::Transformer& model, std::vector<BlockEntropy>& entropy,
       distributed::ExpertTransport& transport, const StepOptions& options);

  /// Gradients of CE / N_loss + balance terms, summed over the world, are in the blocks' buffers
  /// afterwards. `rows` is the global list of micro-batches; this process runs p, p + P, ..., and
  /// an empty slot where others have one more: all issue the same collectives.
  /// `last_statistics` is what lag_one uses; empty: uniform gates. `expected` is this process's
  /// share of figures that only their sum over the world is wanted of (C0).
  /// Throws ContentError where no row bears loss.
  [[nodiscard]] StepResult run(std::span<const data::PackedRow> rows, const model::StepKey& key,
                               const std::vector<std::vector<double>>& last_statistics,
                               const ExpectedRank& expected = {});

 private:
  class Walk;
  void announce(std::span<const data::PackedRow> rows, const ExpectedRank& expected,
                StepResult& result) const;
  [[nodiscard]] std::vector<std::vector<double>> sum_over_world(const at::Tensor& statistics) const;
  [[nodiscard]] std::vector<double> kappa(const std::vector<std::vector<double>>& statistics) const;
  [[nodiscard]] double balance_value(const std::vector<std::vector<double>>& statistics) const;
  [[nodiscard]] std::vector<std::vector<double>> uniform_statistics() const;

  model::Transformer& model_;
  std::vector<BlockEntropy>& entropy_;
  distributed::ExpertTransport& transport_;
  comm::Communicator& comm_;
  StepOptions options_;
  double num_routers_ = 0;
};

}  // namespace dfmoa::train
