// The few words of CUDA that g++ cannot read. nvcc compiles them to themselves; the tests'
// emulation defines the same words, so that kernels run on the CPU from the source that ships.
#pragma once

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_runtime.h>

/// SHARED_ARRAY(float, table, [16][32]); declares a __shared__ array.
#define SHARED_ARRAY(Type, name, ...) __shared__ Type name __VA_ARGS__

/// DYNAMIC_SHARED(int, begin); names the launch's dynamic shared memory.
#define DYNAMIC_SHARED(Type, name)                               \
  extern __shared__ __align__(16) unsigned char dynamic_bytes[]; \
  Type* name = reinterpret_cast<Type*>(dynamic_bytes)

/// LAUNCH((kernel<float>), grid, block, shared bytes, stream, arguments...);
#define LAUNCH(kernel, grid, block, bytes, stream, ...) \
  kernel<<<(grid), (block), (bytes), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)

#elif !defined(DFMOA_CUDA_EMULATION)
#error "a .cu file is compiled by nvcc or after tests/support/cuda_emulation/emulation.h"
#endif

#include <atomic>
#include <cstdint>

#include "src/base/dtype.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::kernels {
namespace {

/// 16 bytes, moved by one instruction.
struct alignas(16) Word4 {
  std::uint32_t word[4];
};

inline constexpr unsigned kWarpSize = 32;
inline constexpr unsigned kWholeWarp = 0xFFFFFFFFU;

/// fp32 to bf16 bits, to nearest even.
__device__ inline std::uint16_t bf16_bits(float value) {
#if defined(__CUDACC__)
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
  return base::to_bf16(value);
#endif
}

/// The sum over a warp, in every lane.
template <class Real>
__device__ Real warp_sum(Real value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kWholeWarp, value, step);
  return value;
}

/// After every launch.
inline void finish_launch([[maybe_unused]] const char* kernel, std::atomic<std::int64_t>* count) {
#if defined(__CUDACC__)
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) {
    throw base::MachineError(
        base::text("launching ", kernel, " failed: ", cudaGetErrorString(status)));
  }
#endif
  if (count != nullptr) ++*count;
}

inline unsigned blocks_for(std::int64_t items, std::int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace
}  // namespace dfmoa::kernels
