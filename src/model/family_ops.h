// The operations of a block in which families differ: its norms and its activation.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "src/model/architecture.h"

namespace dfmoa::model {

/// Shapes  x_TD (T, D), weight_D (D), bias_D (D) or undefined where the norm has none -> (T, D).
[[nodiscard]] at::Tensor norm(const Architecture& architecture, const at::Tensor& x_TD,
                              const at::Tensor& weight_D, const at::Tensor& bias_D);

/// Gradient of `norm` to x, for callers that walk backward by hand.
[[nodiscard]] at::Tensor norm_backward(const Architecture& architecture, const at::Tensor& dy_TD,
                                       const at::Tensor& x_TD, const at::Tensor& weight_D);

/// What `down` reads, from what the linears before it gave: gate and up, or up alone.
[[nodiscard]] at::Tensor activate(const Architecture& architecture,
                                  const std::vector<at::Tensor>& linears);

}  // namespace dfmoa::model
