// A tensor inside a file: what it is called, its type and shape, and where its bytes lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/base/dtype.h"

namespace dfmoa::formats {

/// A tensor whose bytes (row-major, little-endian) belong to somebody else: a mapped file, or the
/// caller who writes. The bytes of a mapped file need not be aligned to their type: copy them.
struct TensorView {
  std::string name;
  base::DType dtype = base::DType::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// A tensor that is about to be written: everything but its bytes.
struct TensorSpec {
  std::string name;
  base::DType dtype = base::DType::f32;
  std::vector<std::int64_t> shape;
};

}  // namespace dfmoa::formats
