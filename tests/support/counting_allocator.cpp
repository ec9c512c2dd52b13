#include "tests/support/counting_allocator.h"

#include <c10/core/CPUAllocator.h>

#include <atomic>

namespace dfmoa::tests {
namespace {

constexpr std::uint8_t kPriority = 100;  // above torch's own allocator

/// Tensors are made and freed by any thread of a parallel loop.
struct Counts {
  std::atomic<std::int64_t> live{0}, peak{0}, largest{0};

  static void raise(std::atomic<std::int64_t>& highest, std::int64_t value) {
    auto seen = highest.load();
    while (seen < value && !highest.compare_exchange_weak(seen, value)) {
    }
  }
  void add(std::int64_t bytes) {
    raise(largest, bytes);
    raise(peak, live.fetch_add(bytes) + bytes);
  }
};

/// One allocation; the counts outlive their allocator with it.
struct Allocation {
  c10::DataPtr data;
  std::shared_ptr<Counts> counts;
  std::int64_t bytes;
};

void release(void* context) {
  const std::unique_ptr<Allocation> allocation(static_cast<Allocation*>(context));
  allocation->counts->live -= allocation->bytes;
}

}  // namespace

class CountingAllocator::Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    const auto bytes = static_cast<std::int64_t>(size);
    auto allocation = std::make_unique<Allocation>(inner->allocate(size), counts, bytes);
    counts->add(bytes);
    auto* data = allocation->data.get();
    const auto device = allocation->data.device();
    return {data, allocation.release(), &release, device};
  }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }

  c10::Allocator* inner = c10::GetCPUAllocator();
  std::shared_ptr<Counts> counts = std::make_shared<Counts>();
};

CountingAllocator::CountingAllocator() : allocator_(std::make_unique<Allocator>()) {
  c10::SetCPUAllocator(allocator_.get(), kPriority);
}

CountingAllocator::~CountingAllocator() {
  c10::SetCPUAllocator(allocator_->inner, kPriority);
}

std::int64_t CountingAllocator::live_bytes() const {
  return allocator_->counts->live;
}

std::int64_t CountingAllocator::peak_bytes() const {
  return allocator_->counts->peak;
}

std::int64_t CountingAllocator::largest_bytes() const {
  return allocator_->counts->largest;
}

void CountingAllocator::restart() {
  allocator_->counts->peak = allocator_->counts->live.load();
  allocator_->counts->largest = 0;
}

}  // namespace dfmoa::tests
