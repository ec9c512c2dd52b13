// The element types of the torch-free layers, in torch's words.
#pragma once

#include <ATen/core/Tensor.h>

#include "src/base/dtype.h"

namespace dfmoa::ops {

[[nodiscard]] at::ScalarType to_torch(base::DType dtype);

/// Throws ShapeError for a type that no file of ours holds.
[[nodiscard]] base::DType from_torch(at::ScalarType dtype);

}  // namespace dfmoa::ops
