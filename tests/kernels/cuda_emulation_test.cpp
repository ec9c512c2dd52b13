// The emulation itself: each mistake it exists to find is made here once, on purpose.
#include "tests/support/cuda_emulation/emulation.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

using namespace dfmoa::cuda_emulation;

namespace {

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const KernelError& error) {
    return error.what();
  }
  return "";
}

/// Sums 64 threads' numbers through shared memory, with or without the barrier.
__global__ void sum_kernel(bool barrier, float* out) {
  SHARED_ARRAY(float, values, [64]);
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (barrier) __syncthreads();
  float sum = 0;
  for (int i = 0; i < 64; ++i) sum += values[i];
  out[threadIdx.x] = sum;
}

__global__ void leaves_early_kernel() {
  if (threadIdx.x == 3) return;
  __syncthreads();
}

__global__ void two_barriers_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void half_warp_kernel() {
  if (threadIdx.x < 16) __syncwarp();
  __syncthreads();
}

__global__ void not_in_mask_kernel() {
  __syncwarp(1U << 5);
}

__global__ void overrun_kernel() {
  SHARED_ARRAY(int, values, [4]);
  int* first = values;
  first[threadIdx.x] = 1;
}

__global__ void shuffle_kernel(int* out) {
  const int own = static_cast<int>(threadIdx.x);
  out[own] = __shfl_xor_sync(~0U, own, 8, 16);
  out[64 + own] = __shfl_down_sync(~0U, own, 5);
  out[128 + own] = __shfl_sync(~0U, own, 3, 8);
}

__global__ void position_kernel(unsigned* out) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.count() + thread] += 1;
}

}  // namespace

TEST(CudaEmulation, a_missing_barrier_shows_in_every_order) {
  for (const Order order : {Order::forward, Order::reverse, Order::random}) {
    const OrderScope scope({order, 3});
    std::vector<float> out(64);
    LAUNCH(sum_kernel, 1, 64, 0, nullptr, true, out.data());
    EXPECT_EQ(out, std::vector<float>(64, 2016.0F));
    LAUNCH(sum_kernel, 1, 64, 0, nullptr, false, out.data());
    EXPECT_NE(out, std::vector<float>(64, 2016.0F));
  }
}

TEST(CudaEmulation, shared_memory_does_not_survive_a_block) {
  std::vector<float> out(64);
  LAUNCH(sum_kernel, 2, 64, 0, nullptr, false, out.data());
  EXPECT_TRUE(out[0] != out[0]) << "the second block saw the first one's values";
}

TEST(CudaEmulation, threads_that_leave_before_a_barrier_are_named) {
  const std::string error = error_of([] { LAUNCH(leaves_early_kernel, 1, 64, 0, nullptr); });
  EXPECT_NE(error.find("cuda_emulation_test.cpp:"), std::string::npos) << error;
  EXPECT_NE(error.find("1 of 64 threads left before the barrier"), std::string::npos) << error;
}

TEST(CudaEmulation, threads_at_different_barriers_are_named) {
  const std::string error = error_of([] { LAUNCH(two_barriers_kernel, 1, 64, 0, nullptr); });
  EXPECT_NE(error.find("different barriers"), std::string::npos) << error;
}

TEST(CudaEmulation, a_deadlock_names_file_and_line) {
  const std::string error = error_of([] { LAUNCH(half_warp_kernel, 1, 32, 0, nullptr); });
  EXPECT_NE(error.find("deadlock: thread 0 waits at cuda_emulation_test.cpp:"), std::string::npos)
      << error;
}

TEST(CudaEmulation, a_lane_outside_its_own_mask_is_an_error) {
  const std::string error = error_of([] { LAUNCH(not_in_mask_kernel, 1, 32, 0, nullptr); });
  EXPECT_NE(error.find("not in its own mask"), std::string::npos) << error;
}

TEST(CudaEmulation, a_write_past_a_shared_array_is_an_error) {
  const std::string error = error_of([] { LAUNCH(overrun_kernel, 1, 5, 0, nullptr); });
  EXPECT_NE(error.find("past the end of a shared array"), std::string::npos) << error;
}

TEST(CudaEmulation, launches_that_a_gpu_refuses_are_errors) {
  const auto error = [](dim3 grid, dim3 block, std::size_t bytes) {
    return error_of([=] { LAUNCH(leaves_early_kernel, grid, block, bytes, nullptr); });
  };
  EXPECT_NE(error(1, 2048, 0).find("a GPU refuses the launch"), std::string::npos);
  EXPECT_NE(error(0, 32, 0).find("a GPU refuses the launch"), std::string::npos);
  EXPECT_NE(error(dim3(1, 70000), 32, 0).find("a GPU refuses the launch"), std::string::npos);
  EXPECT_NE(error(1, 32, 300000).find("a GPU refuses the launch"), std::string::npos);
}

TEST(CudaEmulation, device_functions_outside_a_launch_are_errors) {
  EXPECT_THROW((void)position(), KernelError);
}

TEST(CudaEmulation, shuffles_follow_the_width) {
  std::vector<int> out(192);
  LAUNCH(shuffle_kernel, 1, 64, 0, nullptr, out.data());
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(out[static_cast<std::size_t>(i)], i ^ 8);
    EXPECT_EQ(out[static_cast<std::size_t>(64 + i)], i % 32 + 5 < 32 ? i + 5 : i);
    EXPECT_EQ(out[static_cast<std::size_t>(128 + i)], i / 8 * 8 + 3);
  }
}

TEST(CudaEmulation, every_thread_of_every_block_runs_once) {
  for (const Order order : {Order::forward, Order::reverse, Order::random}) {
    const OrderScope scope({order, 5});
    std::vector<unsigned> out(2 * 3 * 2 * 4 * 3 * 2);
    LAUNCH(position_kernel, dim3(2, 3, 2), dim3(4, 3, 2), 0, nullptr, out.data());
    EXPECT_EQ(out, std::vector<unsigned>(out.size(), 1));
  }
}
