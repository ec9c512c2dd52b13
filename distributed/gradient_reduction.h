// C2: every process's gradients become their sum, block after block.
#pragma once

#include <ATen/core/Tensor.h>

#include "distributed/comm/communicator.h"

namespace dfmoa::distributed {

/// Plain data parallelism. Sums, never averages: the loss is already divided by the global number
/// of loss-bearing tokens. A process without tokens takes part with zeros.
class GradientReduction {
 public:
  explicit GradientReduction(comm::Communicator& comm) : comm_(comm) {}

  /// In place on a flat fp32 or fp64 buffer. The communicator adds in host memory: a gradient that
  /// lies elsewhere is copied there and back.
  void launch(std::int64_t layer, at::Tensor flat_gradient);

 private:
  comm::Communicator& comm_;
};

}  // namespace dfmoa::distributed
