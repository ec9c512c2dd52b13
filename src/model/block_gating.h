// What a forward of a block has computed of its gates so far.
#pragma once

#include <vector>

#include "src/model/block.h"

namespace dfmoa::model {

struct Block::Gating {
  std::vector<at::Tensor> w;           // one (T, E) per router, undefined until computed
  std::vector<at::Tensor> statistics;  // one per router

  /// (T, 1), the gate of a side adapter; undefined: 1.
  [[nodiscard]] at::Tensor of(const SideAdapter& side) const {
    if (side.router < 0) return {};
    return w[static_cast<std::size_t>(side.router)].narrow(1, side.column, 1);
  }
};

}  // namespace dfmoa::model
