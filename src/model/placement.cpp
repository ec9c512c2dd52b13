#include "src/model/placement.h"

namespace dfmoa::model {
namespace {

/// What a family does not have stays undefined.
void move_tensor(at::Tensor& tensor, at::Device device) {
  if (tensor.defined()) tensor = tensor.to(device);
}

}  // namespace

std::shared_ptr<const BaseModel> on_device(const BaseModel& base, at::Device device) {
  auto placed = std::make_shared<BaseModel>(base);
  const bool tied = base.head_VD.is_same(base.embedding_VD);
  placed->embedding_VD = base.embedding_VD.to(device);
  placed->head_VD = tied ? placed->embedding_VD : base.head_VD.to(device);
  for (auto* tensor : {&placed->position_PD, &placed->final_norm_D, &placed->final_norm_bias_D}) {
    move_tensor(*tensor, device);
  }
  for (auto& layer : placed->layers) {
    for (auto* tensor : {&layer.attention_norm_D, &layer.attention_norm_bias_D, &layer.mlp_norm_D,
                         &layer.mlp_norm_bias_D}) {
      move_tensor(*tensor, device);
    }
    for (auto& linear : layer.linears) {
      if (linear != nullptr) linear = linear->to(device);
    }
  }
  return placed;
}

}  // namespace dfmoa::model
