#include "src/ops/swiglu.h"

#include <torch/csrc/autograd/custom_function.h>

namespace dfmoa::ops {
namespace {

class SwiGlu : public torch::autograd::Function<SwiGlu> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& gate_TF,
                            const at::Tensor& up_TF) {
    context->save_for_backward({gate_TF, up_TF});
    return at::silu(gate_TF).mul_(up_TF);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    auto dup_TF = at::silu(saved[0]).mul_(grads[0]);
    auto dgate_TF = at::silu_backward(grads[0] * saved[1], saved[0]);
    return {dgate_TF, dup_TF};
  }
};

}  // namespace

at::Tensor swiglu(const at::Tensor& gate_TF, const at::Tensor& up_TF) {
  return SwiGlu::apply(gate_TF, up_TF);
}

at::Tensor swiglu_plain(const at::Tensor& gate_TF, const at::Tensor& up_TF) {
  return gate_TF * at::sigmoid(gate_TF) * up_TF;
}

}  // namespace dfmoa::ops
