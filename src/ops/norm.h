// Root-mean-square normalisation that keeps one number per token for its backward.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::ops {

/// y = x / sqrt(mean(x^2) + eps) * weight, statistics in x's type (fp32 or fp64).
///
/// Shapes  x_TD (T, D), weight_D (D) frozen -> (T, D).
/// Source  Zhang and Sennrich 2019, arXiv:1910.07467.
[[nodiscard]] at::Tensor rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps);

/// Gradient to x, for callers that walk backward by hand.
[[nodiscard]] at::Tensor rms_norm_backward(const at::Tensor& dy_TD, const at::Tensor& x_TD,
                                           const at::Tensor& weight_D, double eps);

/// The same in plain ops under autograd: the oracle.
[[nodiscard]] at::Tensor rms_norm_plain(const at::Tensor& x_TD, const at::Tensor& weight_D,
                                        double eps);

}  // namespace dfmoa::ops
