// What an ExpertTransport keeps of every block; for its own files alone.
#pragma once

#include "distributed/comm/pending.h"
#include "distributed/expert_transport.h"

namespace dfmoa::distributed {

struct ExpertTransport::Layer {
  std::vector<RowRun> runs;
  WeightGather travelling;  ///< gathered before the block runs
  WeightGather owned;       ///< summed over the copies of the model
  WeightGather shared;      ///< summed over the world
  model::BlockAdapters banks;
  std::vector<adapters::ParameterSpec> specs;  ///< of `banks`, named as those of the whole block
  std::vector<std::int64_t> held;              ///< of every spec its number in what is held, or -1
  std::vector<bool> travels;                   ///< of every spec
  std::int64_t elements = 0;                   ///< of the specs that travel
};

struct ExpertTransport::Lent {
  std::int64_t layer = -1;  ///< -1: free
  bool is_started = false;
  bool is_complete = false;
  at::Tensor values;                  ///< flat
  at::Tensor flat_gradient;           ///< where weights stay for the step
  std::vector<at::Tensor> gradients;  ///< views of it, of specs that travel
  model::TrainedPart part;
};

/// The gather under way: one block's at a time, of what will be lent next.
struct ExpertTransport::Gather {
  std::int64_t layer = -1;  ///< -1: none is
  at::Tensor own, messages;
  comm::Pending pending;
};

/// Gradients on their way to the owners.
struct ExpertTransport::Scatter {
  model::Block* block = nullptr;
  bool last = false;
  at::Tensor messages, own;
  comm::Pending pending;
};

/// A sum of gradients under way.
struct ExpertTransport::Sum {
  model::Block* block = nullptr;
  const WeightGather* rows = nullptr;  ///< null: the whole flat gradient
  at::Tensor message;
  comm::Pending pending;
};

}  // namespace dfmoa::distributed
