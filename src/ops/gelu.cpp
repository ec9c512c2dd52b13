#include "src/ops/gelu.h"

#include <cmath>
#include <numbers>

namespace dfmoa::ops {

at::Tensor gelu_new(const at::Tensor& up_TF) {
  return at::gelu(up_TF, "tanh");
}

at::Tensor gelu_new_plain(const at::Tensor& up_TF) {
  const double slope = std::sqrt(2.0 / std::numbers::pi);
  return 0.5 * up_TF * (1.0 + at::tanh(slope * (up_TF + 0.044715 * up_TF.pow(3))));
}

}  // namespace dfmoa::ops
