// The update of all trained tensors, on the flat buffers of every block.
#pragma once

#include <cstdint>
#include <vector>

#include "src/model/transformer.h"
#include "src/train/config.h"

namespace dfmoa::train {

/// Learning rates of one step, already scheduled.
struct Rates {
  double adapter = 0;
  double router_share = 0;  ///< share of its own peak rate that a router with one uses
  double rank_gate = 0;
  double dimension_gate = 0;
};

class Optimizer {
 public:
  explicit Optimizer(const TrainConfig& config) : config_(config) {}

  /// AdamW with decoupled weight decay on the adapters only, or plain SGD. `updates` counts from 1.
  /// Source  Loshchilov and Hutter 2019, arXiv:1711.05101.
  void step(std::vector<model::Block>& blocks, const Rates& rates, std::int64_t updates) const;

 private:
  TrainConfig config_;
};

/// Multiplies every gradient.
void scale_gradients(std::vector<model::Block>& blocks, double factor);

}  // namespace dfmoa::train
