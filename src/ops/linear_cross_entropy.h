// The vocabulary head and its loss in chunks of tokens: the (T, V) logits never exist.
#pragma once

#include <ATen/core/Tensor.h>

namespace dfmoa::ops {

struct LinearCrossEntropy {
  at::Tensor nll_X;   ///< negative log-likelihood of every target, nats, fp64
  at::Tensor dx_XD;   ///< d(sum nll * scale)/dx, undefined unless wanted
  at::Tensor best_X;  ///< most likely token of every row, int64
};

/// Shapes  x_XD (X, D) rows that bear loss, weight_VD (V, D) frozen, target_X (X) int64 in [0, V).
/// Memory  one buffer of (min(X, chunk), V) elements, whatever X is.
/// Throws  ShapeError where the shapes do not fit or chunk < 1.
[[nodiscard]] LinearCrossEntropy linear_cross_entropy(const at::Tensor& x_XD,
                                                      const at::Tensor& weight_VD,
                                                      const at::Tensor& target_X, double scale,
                                                      bool want_gradient, std::int64_t chunk = 256);

/// The same with whole logits in plain ops: the oracle. Returns nll_X under autograd.
[[nodiscard]] at::Tensor linear_cross_entropy_plain(const at::Tensor& x_XD,
                                                    const at::Tensor& weight_VD,
                                                    const at::Tensor& target_X);

}  // namespace dfmoa::ops
