#include "src/ops/dtype.h"

#include <array>
#include <utility>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::ops {
namespace {

constexpr std::array<std::pair<base::DType, at::ScalarType>, 7> kPairs{
    {{base::DType::f64, at::kDouble},
     {base::DType::f32, at::kFloat},
     {base::DType::f16, at::kHalf},
     {base::DType::bf16, at::kBFloat16},
     {base::DType::i64, at::kLong},
     {base::DType::i32, at::kInt},
     {base::DType::u8, at::kByte}}};

}  // namespace

at::ScalarType to_torch(base::DType dtype) {
  for (const auto& [own, torch_type] : kPairs) {
    if (own == dtype) return torch_type;
  }
  throw base::ShapeError("element type without a torch counterpart: " + base::name_of(dtype));
}

base::DType from_torch(at::ScalarType dtype) {
  for (const auto& [own, torch_type] : kPairs) {
    if (torch_type == dtype) return own;
  }
  throw base::ShapeError(
      base::text("tensor of type ", c10::toString(dtype), ": expected a type that files hold"));
}

}  // namespace dfmoa::ops
