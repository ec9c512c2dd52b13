// GGUF blocks back to fp32.
#pragma once

#include <cstdint>

#include "src/formats/gguf.h"

namespace dfmoa::formats {

/// Rows [begin_row, end_row) of the tensor to out, (end_row - begin_row, columns) row-major.
/// Equal bit for bit to ggml's reference for finite scales: scale times code rounded, then offset.
/// Throws ShapeError if the rows lie outside the tensor.
void dequantize(const GgufTensor& tensor, std::int64_t begin_row, std::int64_t end_row, float* out);

}  // namespace dfmoa::formats
