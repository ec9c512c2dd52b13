// Normalisation of tokens, by root mean square or with a mean, under frozen weights.
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

/// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, var over D (not D - 1).
///
/// Shapes  x_TD (T, D), weight_D and bias_D (D) frozen -> (T, D).
/// Source  Ba, Kiros and Hinton 2016, arXiv:1607.06450.
[[nodiscard]] at::Tensor layer_norm(const at::Tensor& x_TD, const at::Tensor& weight_D,
                                    const at::Tensor& bias_D, double eps);

/// Gradient to x, for callers that walk backward by hand.
[[nodiscard]] at::Tensor layer_norm_backward(const at::Tensor& dy_TD, const at::Tensor& x_TD,
                                             const at::Tensor& weight_D, double eps);

/// The same in plain ops under autograd: the oracle.
[[nodiscard]] at::Tensor layer_norm_plain(const at::Tensor& x_TD, const at::Tensor& weight_D,
                                          const at::Tensor& bias_D, double eps);

}  // namespace dfmoa::ops
