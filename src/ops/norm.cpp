#include "src/ops/norm.h"

#include <torch/csrc/autograd/custom_function.h>

namespace dfmoa::ops {
namespace {

at::Tensor inverse_rms(const at::Tensor& x_TD, double eps) {
  const auto mean_square = at::linalg_vector_norm(x_TD, 2, at::IntArrayRef{-1}, /*keepdim=*/true)
                               .square()
                               .div_(static_cast<double>(x_TD.size(-1)));
  return mean_square.add_(eps).rsqrt_();
}

at::Tensor backward_to_x(const at::Tensor& dy_TD, const at::Tensor& x_TD,
                         const at::Tensor& inverse_T1, const at::Tensor& weight_D) {
  auto scaled_TD = dy_TD * weight_D;
  const auto along_T1 = (scaled_TD * x_TD).sum(-1, /*keepdim=*/true) *
                        inverse_T1.square().div(static_cast<double>(x_TD.size(-1)));
  return scaled_TD.sub_(x_TD * along_T1).mul_(inverse_T1);
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_TD,
                            const at::Tensor& weight_D, double eps) {
    const auto inverse_T1 = inverse_rms(x_TD, eps);
    context->save_for_backward({x_TD, inverse_T1, weight_D});
    return (x_TD * inverse_T1).mul_(weight_D);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    return {backward_to_x(grads[0], saved[0], saved[1], saved[2]), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps) {
  return RmsNorm::apply(x_TD, weight_D, eps);
}

at::Tensor rms_norm_backward(const at::Tensor& dy_TD, const at::Tensor& x_TD,
                             const at::Tensor& weight_D, double eps) {
  return backward_to_x(dy_TD, x_TD, inverse_rms(x_TD, eps), weight_D);
}

at::Tensor rms_norm_plain(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps) {
  return x_TD * (x_TD.square().mean(-1, /*keepdim=*/true) + eps).rsqrt() * weight_D;
}

at::Tensor layer_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, const at::Tensor& bias_D,
                      double eps) {
  return at::layer_norm(x_TD, {x_TD.size(-1)}, weight_D, bias_D, eps);
}

at::Tensor layer_norm_backward(const at::Tensor& dy_TD, const at::Tensor& x_TD,
                               const at::Tensor& weight_D, double eps) {
  const auto centred_TD = x_TD - x_TD.mean(-1, /*keepdim=*/true);
  const auto inverse_T1 = inverse_rms(centred_TD, eps);
  // What RMS norm's backward gives for the centred stream, less its mean: centring is a projection.
  const auto dcentred_TD = backward_to_x(dy_TD, centred_TD, inverse_T1, weight_D);
  return dcentred_TD - dcentred_TD.mean(-1, /*keepdim=*/true);
}

at::Tensor layer_norm_plain(const at::Tensor& x_TD, const at::Tensor& weight_D,
                            const at::Tensor& bias_D, double eps) {
  return rms_norm_plain(x_TD - x_TD.mean(-1, /*keepdim=*/true), weight_D, eps) + bias_D;
}

}  // namespace dfmoa::ops
