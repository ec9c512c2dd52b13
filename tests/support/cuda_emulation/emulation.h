// The words of CUDA C++ that the kernels use, for g++. Included before a .cu file; see
// kernels/cuda/portable.h for the other side.
#pragma once

#define DFMOA_CUDA_EMULATION 1

#include <cstring>
#include <tuple>

#include "tests/support/cuda_emulation/emulator.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::dfmoa::cuda_emulation::position().thread)
#define blockIdx (::dfmoa::cuda_emulation::position().block)
#define blockDim (::dfmoa::cuda_emulation::position().block_extent)
#define gridDim (::dfmoa::cuda_emulation::position().grid_extent)
using dim3 = dfmoa::cuda_emulation::Extent3;

#define SHARED_ARRAY(Type, name, ...)      \
  using name##_type = Type __VA_ARGS__;    \
  static const char name##_key = 0;        \
  auto& name = *static_cast<name##_type*>( \
      ::dfmoa::cuda_emulation::shared_memory(&name##_key, sizeof(name##_type)))

#define DYNAMIC_SHARED(Type, name) \
  auto* name = static_cast<Type*>(::dfmoa::cuda_emulation::shared_memory(nullptr, 0))

// Arguments are copied at the launch, as CUDA does.
#define LAUNCH(kernel, grid, block, bytes, stream, ...)                               \
  [&, arguments = std::make_tuple(__VA_ARGS__)] {                                     \
    static_cast<void>(stream);                                                        \
    ::dfmoa::cuda_emulation::launch(#kernel, (grid), (block), (bytes), [&arguments] { \
      std::apply([](const auto&... values) { kernel(values...); }, arguments);        \
    });                                                                               \
  }()

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  dfmoa::cuda_emulation::block_barrier(where);
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFU,
                       std::source_location where = std::source_location::current()) {
  dfmoa::cuda_emulation::warp_exchange(mask, 0, where);
}

namespace dfmoa::cuda_emulation {

/// What lane `source(lane)` of this thread's group of `width` lanes brought; the thread's own value
/// when that lies outside the group.
template <class T, class Source>
T shuffle(unsigned mask, T value, int width, Source source, std::source_location where) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const auto all = warp_exchange(mask, bits, where);
  const int own = static_cast<int>(lane());
  const int group = own / width * width;
  const int from = source(own - group);
  if (from < 0 || from >= width) return value;
  T result;
  std::memcpy(&result, &all[static_cast<std::size_t>(group + from)], sizeof(T));
  return result;
}

}  // namespace dfmoa::cuda_emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32,
              std::source_location where = std::source_location::current()) {
  return dfmoa::cuda_emulation::shuffle(
      mask, value, width, [=](int) { return from & (width - 1); }, where);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int step, int width = 32,
                  std::source_location where = std::source_location::current()) {
  return dfmoa::cuda_emulation::shuffle(
      mask, value, width, [=](int own) { return own ^ step; }, where);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned step, int width = 32,
                   std::source_location where = std::source_location::current()) {
  return dfmoa::cuda_emulation::shuffle(
      mask, value, width, [=](int own) { return own + static_cast<int>(step); }, where);
}
