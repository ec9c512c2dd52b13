// silu(gate) * up, keeping only its two inputs for backward.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::ops {

/// Shapes  gate_TF, up_TF (T, F) -> (T, F).
/// Source  Shazeer 2020, arXiv:2002.05202.
[[nodiscard]] at::Tensor swiglu(const at::Tensor& gate_TF, const at::Tensor& up_TF);

/// The same in plain ops under autograd: the oracle.
[[nodiscard]] at::Tensor swiglu_plain(const at::Tensor& gate_TF, const at::Tensor& up_TF);

}  // namespace dfmoa::ops
