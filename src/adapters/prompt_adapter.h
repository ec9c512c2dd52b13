// Trained tokens that every query attends to beside its text, with a softmax of their own.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::adapters {

/// gate_h * softmax(q_h k^T / sqrt C) v for every query head h; heads of a group share k and v.
/// The gates start at 0, so that it starts as nothing; positions play no part.
///
/// Shapes  q_THC (T, H, C) before any rotation, k_PKC and v_PKC (P tokens, KV heads, C),
///         head_gate_H (H) -> (T, H, C).
/// Throws  ShapeError where they do not fit.
/// Source  LLaMA-Adapter's zero-init attention as MoA uses it, arXiv:2506.05928.
[[nodiscard]] at::Tensor prompt_attention(const at::Tensor& q_THC, const at::Tensor& k_PKC,
                                          const at::Tensor& v_PKC, const at::Tensor& head_gate_H);

}  // namespace dfmoa::adapters
