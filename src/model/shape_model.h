// A base model without its weights: shapes and bytes, for those who plan.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "src/model/base_model.h"

namespace dfmoa::model {

/// What `load_base_model` would make of the folder, of which config.json alone is read: the same
/// shapes and bytes, no numbers. Linears that config.json says are quantised count as NF4 with fp32
/// scales per 64 weights.
/// Throws as read_architecture; what is made throws ShapeError where it is computed with.
[[nodiscard]] std::shared_ptr<const BaseModel> shape_model(const ModelConfig& config,
                                                           at::ScalarType dtype);

}  // namespace dfmoa::model
