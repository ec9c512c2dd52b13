#include "src/model/placement.h"

namespace dfmoa::model {

std::shared_ptr<const BaseModel> on_device(const BaseModel& base, at::Device device) {
  auto placed = std::make_shared<BaseModel>(base);
  const bool tied = base.head_VD.is_same(base.embedding_VD);
  placed->embedding_VD = base.embedding_VD.to(device);
  placed->head_VD = tied ? placed->embedding_VD : base.head_VD.to(device);
  placed->final_norm_D = base.final_norm_D.to(device);
  for (auto& layer : placed->layers) {
    layer.attention_norm_D = layer.attention_norm_D.to(device);
    layer.mlp_norm_D = layer.mlp_norm_D.to(device);
    for (auto& linear : layer.linears) linear = linear->to(device);
  }
  return placed;
}

}  // namespace dfmoa::model
