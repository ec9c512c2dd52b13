// Of a build without CUDA: the launchers are there and say what is missing.
#include <gtest/gtest.h>

#include "kernels/cuda/launch.h"
#include "src/base/error.h"

using namespace dfmoa;
using namespace dfmoa::kernels;

TEST(NoCuda, every_launcher_is_a_usage_error) {
  if (cuda::is_built()) GTEST_SKIP() << "this build has CUDA";
  const GateScaleShape shape;
  const GateScaleInputs<float> in;
  const StridedRows<const float> q;
  const StridedRows<float> out;
  float* f32 = nullptr;
  double* f64 = nullptr;
  std::uint16_t* bf16 = nullptr;
  EXPECT_THROW(cuda::nf4_dequantize(nullptr, nullptr, 64, 0, 0, f32, {}), base::UsageError);
  EXPECT_THROW(cuda::nf4_dequantize(nullptr, nullptr, 64, 0, 0, f64, {}), base::UsageError);
  EXPECT_THROW(cuda::nf4_dequantize(nullptr, nullptr, 64, 0, 0, bf16, {}), base::UsageError);
  EXPECT_THROW(cuda::gate_scale_forward(shape, in, out, {}), base::UsageError);
  EXPECT_THROW(cuda::gate_scale_backward(shape, in, q, out, f32, {}), base::UsageError);
  EXPECT_THROW((void)cuda::gate_scale_z_pieces(1, 1), base::UsageError);
  EXPECT_THROW(cuda::gate_scale_backward_z(shape, in, q, nullptr, 0, f32, f32, {}),
               base::UsageError);
}
