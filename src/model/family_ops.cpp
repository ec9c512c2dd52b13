#include "src/model/family_ops.h"

#include "src/ops/gelu.h"
#include "src/ops/norm.h"
#include "src/ops/swiglu.h"

namespace dfmoa::model {

at::Tensor norm(const Architecture& architecture, const at::Tensor& x_TD,
                const at::Tensor& weight_D, const at::Tensor& bias_D) {
  const auto eps = architecture.norm_eps;
  return architecture.norm == Norm::layer ? ops::layer_norm(x_TD, weight_D, bias_D, eps)
                                          : ops::rms_norm(x_TD, weight_D, eps);
}

at::Tensor norm_backward(const Architecture& architecture, const at::Tensor& dy_TD,
                         const at::Tensor& x_TD, const at::Tensor& weight_D) {
  const auto eps = architecture.norm_eps;
  return architecture.norm == Norm::layer ? ops::layer_norm_backward(dy_TD, x_TD, weight_D, eps)
                                          : ops::rms_norm_backward(dy_TD, x_TD, weight_D, eps);
}

at::Tensor activate(const Architecture& architecture, const std::vector<at::Tensor>& linears) {
  return architecture.activation == Activation::gelu_new ? ops::gelu_new(linears[0])
                                                         : ops::swiglu(linears[0], linears[1]);
}

}  // namespace dfmoa::model
