// Launchers on a machine or in a build that cannot launch: they say what is missing.
#include <gtest/gtest.h>

#include <filesystem>

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

TEST(NoCuda, a_launch_without_a_gpu_is_a_machine_error) {
  if (!cuda::is_built()) GTEST_SKIP() << "this build has no CUDA";
  if (std::filesystem::exists("/dev/nvidia0")) GTEST_SKIP() << "this machine has a GPU";
  alignas(16) float out[64];
  EXPECT_THROW(cuda::nf4_dequantize(nullptr, nullptr, 64, 0, 64, out, {}), base::MachineError);
}
