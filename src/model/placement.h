// A base model goes to the device that computes with it.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "src/model/base_model.h"

namespace dfmoa::model {

/// The same model with every weight on `device`; tensors that lie there already are shared. All
/// that is built on it, adapters and packed rows, follows its embedding.
[[nodiscard]] std::shared_ptr<const BaseModel> on_device(const BaseModel& base, at::Device device);

}  // namespace dfmoa::model
