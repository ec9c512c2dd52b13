// Counts what torch takes from the CPU allocator, for tests of memory.
#pragma once

#include <cstdint>
#include <memory>

namespace dfmoa::tests {

/// Bytes of the tensors that were made while it lives. A tensor may outlive it, but must not be
/// resized afterwards. Scopes nest, and an outer one counts what an inner one does.
class CountingAllocator {
 public:
  CountingAllocator();
  ~CountingAllocator();
  CountingAllocator(const CountingAllocator&) = delete;
  CountingAllocator& operator=(const CountingAllocator&) = delete;

  [[nodiscard]] std::int64_t live_bytes() const;
  /// Most bytes alive at once, and the largest single allocation, since the last `restart`.
  [[nodiscard]] std::int64_t peak_bytes() const;
  [[nodiscard]] std::int64_t largest_bytes() const;
  /// Peak and largest count from here.
  void restart();

 private:
  class Allocator;
  std::unique_ptr<Allocator> allocator_;
};

}  // namespace dfmoa::tests
