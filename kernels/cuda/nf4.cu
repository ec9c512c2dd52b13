// NF4 dequantise on CUDA. Each thread turns 4 bytes into 8 values; bound by memory.
#include "kernels/nf4.h"

#include <bit>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/portable.h"

namespace dfmoa::kernels {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kPerThread = 8;

struct Levels {
  float value[16];
};

__device__ inline void put(float* out, float value) {
  *out = value;
}
__device__ inline void put(double* out, float value) {
  *out = static_cast<double>(value);
}
__device__ inline void put(std::uint16_t* out, float value) {
  *out = bf16_bits(value);
}

template <class Out>
__global__ void __launch_bounds__(kThreads)
    dequantize_kernel(const std::uint8_t* __restrict__ codes, const float* __restrict__ absmax,
                      int block_shift, std::int64_t count, Out* __restrict__ out,
                      const __grid_constant__ Levels levels) {
  // One copy of the codebook per bank: lanes never wait for each other, whatever codes they hold.
  SHARED_ARRAY(float, table, [16 * kWarpSize]);
  for (unsigned i = threadIdx.x; i < 16 * kWarpSize; i += kThreads) {
    table[i] = levels.value[i / kWarpSize];
  }
  __syncthreads();
  const float* bank = table + threadIdx.x % kWarpSize;

  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPerThread;
  if (first >= count) return;
  const float scale = absmax[first >> block_shift];
  codes += first / 2;
  out += first;
  if (first + kPerThread <= count) {
    const std::uint32_t bytes = *reinterpret_cast<const std::uint32_t*>(codes);
    union {
      Out values[kPerThread];
      Word4 words[kPerThread * sizeof(Out) / sizeof(Word4)];
    } eight;
    for (unsigned i = 0; i < kPerThread; ++i) {
      const unsigned code = bytes >> (i % 2 == 0 ? 4 * i + 4 : 4 * i - 4) & 15U;
      put(&eight.values[i], bank[code * kWarpSize] * scale);
    }
    for (unsigned i = 0; i < sizeof(eight.words) / sizeof(Word4); ++i) {
      reinterpret_cast<Word4*>(out)[i] = eight.words[i];
    }
  } else {
    for (unsigned i = 0; first + i < count; ++i) {
      const unsigned code = codes[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15U;
      put(&out[i], bank[code * kWarpSize] * scale);
    }
  }
}

bool is_aligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

template <class Out>
void dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                std::int64_t begin, std::int64_t end, Out* out, const LaunchTarget& target) {
  if (!nf4_block_is_legal(block) || begin < 0 || end < begin || begin % block != 0) {
    throw base::ShapeError(base::text("nf4_dequantize on a device: range [", begin, ", ", end,
                                      ") of blocks of ", block));
  }
  codes += begin / 2;
  if (!is_aligned(codes, 4) || !is_aligned(out, 16)) {
    throw base::ShapeError(
        "nf4_dequantize on a device: expected codes aligned to 4 bytes and the output to 16");
  }
  if (begin == end) return;
  Levels levels{};
  for (std::size_t i = 0; i < 16; ++i) levels.value[i] = kNf4Codebook[i];
  const int shift = std::countr_zero(static_cast<std::uint64_t>(block));
  LAUNCH((dequantize_kernel<Out>), blocks_for(end - begin, kThreads * kPerThread), kThreads, 0,
         target.stream, codes, absmax + begin / block, shift, end - begin, out, levels);
  finish_launch("nf4_dequantize",
                target.counts == nullptr ? nullptr : &target.counts->nf4_dequantize);
}

}  // namespace

namespace DFMOA_CUDA_NAMESPACE {

bool is_built() {
  return true;
}

void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, float* out, const LaunchTarget& target) {
  dequantize(codes, absmax, block, begin, end, out, target);
}

void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, std::uint16_t* out,
                    const LaunchTarget& target) {
  dequantize(codes, absmax, block, begin, end, out, target);
}

void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, double* out, const LaunchTarget& target) {
  dequantize(codes, absmax, block, begin, end, out, target);
}

}  // namespace DFMOA_CUDA_NAMESPACE
}  // namespace dfmoa::kernels
