// The activation of GPT-2, keeping only its input for backward.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::ops {

/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): GELU through tanh, "gelu_new" in config.json.
///
/// Shapes  up_TF (T, F) -> (T, F).
/// Source  Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2.
[[nodiscard]] at::Tensor gelu_new(const at::Tensor& up_TF);

/// The same in plain ops under autograd: the oracle.
[[nodiscard]] at::Tensor gelu_new_plain(const at::Tensor& up_TF);

}  // namespace dfmoa::ops
