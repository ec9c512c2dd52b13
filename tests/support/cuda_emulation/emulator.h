// Runs CUDA kernels on the CPU: one fiber per CUDA thread, one block after another.
//
// What it finds: missing barriers (shared memory starts as NaN and threads run in several orders),
// barriers that not all threads reach, warp operations whose lanes disagree, launches a GPU would
// refuse. What it cannot find: races in global memory between orders that agree, speed, anything
// about tensor cores.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

namespace dfmoa::cuda_emulation {

/// In which order threads and blocks get their turn.
enum class Order { forward, reverse, random };

struct Settings {
  Order order = Order::forward;
  std::uint64_t seed = 1;
};

/// While alive, launches of this thread use these settings.
class OrderScope {
 public:
  explicit OrderScope(Settings settings);
  ~OrderScope();
  OrderScope(const OrderScope&) = delete;
  OrderScope& operator=(const OrderScope&) = delete;

 private:
  Settings previous_;
};

/// A mistake of the kernel, with file and line of the threads concerned.
class KernelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Index3 {
  unsigned x = 0;
  unsigned y = 0;
  unsigned z = 0;
};

struct Extent3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  constexpr Extent3(unsigned width = 1, unsigned height = 1, unsigned depth = 1)
      : x(width), y(height), z(depth) {}
  [[nodiscard]] std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

/// threadIdx, blockIdx, blockDim, gridDim of the thread that runs now.
struct Position {
  Index3 thread;
  Index3 block;
  Extent3 block_extent;
  Extent3 grid_extent;
};
const Position& position();

/// Runs `kernel` for every thread of the grid. Throws KernelError.
void launch(const char* name, Extent3 grid, Extent3 block, std::size_t dynamic_bytes,
            const std::function<void()>& kernel);

/// The block's array named by `key`: every thread gets the same memory, which starts as 0xFF bytes
/// in every block. A null key is the launch's dynamic shared memory.
void* shared_memory(const void* key, std::size_t bytes);

/// Waits until every thread of the block waits at the same place.
void block_barrier(std::source_location where);

/// Waits for the lanes of `mask` and returns what each of the warp's 32 lanes brought.
std::array<std::uint64_t, 32> warp_exchange(unsigned mask, std::uint64_t value,
                                            std::source_location where);

/// This thread's place in its warp.
unsigned lane();

}  // namespace dfmoa::cuda_emulation
