// A small MLP beside the block's own: what a mixture can hold beside LoRA experts.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::adapters {

/// Trained tensors; `up_DW` and `up_bias_D` start at 0, so that it starts as nothing.
struct ParallelAdapter {
  at::Tensor down_WD;  ///< (W, D), W the bottleneck
  at::Tensor down_bias_W;
  at::Tensor up_DW;
  at::Tensor up_bias_D;
};

/// up silu(down x + b1) + b2.
/// Shapes  x_TD (T, D) -> (T, D).
/// Throws  ShapeError where the tensors do not fit x.
/// Source  MoA, arXiv:2506.05928.
[[nodiscard]] at::Tensor parallel_adapter(const at::Tensor& x_TD, const ParallelAdapter& adapter);

}  // namespace dfmoa::adapters
