#include "src/ops/rotary.h"

namespace dfmoa::ops {

RotaryTable rotary_table(const at::Tensor& position_T, const at::Tensor& inverse_frequency,
                         at::ScalarType dtype) {
  const auto half = at::outer(position_T.to(at::kFloat), inverse_frequency);
  const auto angle_T1C = at::cat({half, half}, 1).unsqueeze(1);
  return {angle_T1C.cos().to(dtype), angle_T1C.sin().to(dtype)};
}

at::Tensor rotate(const at::Tensor& x_THC, const RotaryTable& table) {
  const auto half = x_THC.size(2) / 2;
  const auto turned = at::cat({-x_THC.narrow(2, half, half), x_THC.narrow(2, 0, half)}, /*dim=*/2);
  return x_THC * table.cos_T1C + turned * table.sin_T1C;
}

}  // namespace dfmoa::ops
