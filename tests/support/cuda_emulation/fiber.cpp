#include "tests/support/cuda_emulation/fiber.h"

#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace dfmoa::cuda_emulation {
namespace {

/// `leaving` null: the stack that is left will not be entered again.
void before_switch([[maybe_unused]] void** leaving, [[maybe_unused]] const void* bottom,
                   [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(leaving, bottom, bytes);
#endif
}

void after_switch([[maybe_unused]] void* own, [[maybe_unused]] const void** left_bottom,
                  [[maybe_unused]] std::size_t* left_bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(own, left_bottom, left_bytes);
#endif
}

/// Boost's view of a stack from the pool.
struct Stack {
  std::byte* bottom;
  StackPool* pool;

  boost::context::stack_context allocate() const {
    boost::context::stack_context context;
    context.size = StackPool::kBytes;
    context.sp = bottom + StackPool::kBytes;
    return context;
  }
  void deallocate(boost::context::stack_context&) const { pool->give_back(bottom); }
};

}  // namespace

std::byte* StackPool::take() {
  if (free_.empty()) {
    all_.push_back(std::make_unique<std::byte[]>(kBytes));
    return all_.back().get();
  }
  std::byte* stack = free_.back();
  free_.pop_back();
  return stack;
}

void Fiber::resume(StackPool& stacks, const std::function<void()>& body) {
  if (!has_started()) {
    stack_ = stacks.take();
    self_ = boost::context::fiber(
        std::allocator_arg, Stack{stack_, &stacks},
        [this, &body](boost::context::fiber&& caller) { return enter(std::move(caller), body); });
  }
  void* fake_stack = nullptr;
  before_switch(&fake_stack, stack_, StackPool::kBytes);
  self_ = std::move(self_).resume();
  after_switch(fake_stack, nullptr, nullptr);
}

boost::context::fiber Fiber::enter(boost::context::fiber&& caller,
                                   const std::function<void()>& body) {
  after_switch(nullptr, &caller_bottom_, &caller_bytes_);
  caller_ = std::move(caller);
  body();
  before_switch(nullptr, caller_bottom_, caller_bytes_);
  return std::move(caller_);
}

void Fiber::wait() {
  before_switch(&fake_stack_, caller_bottom_, caller_bytes_);
  caller_ = std::move(caller_).resume();
  after_switch(fake_stack_, &caller_bottom_, &caller_bytes_);
}

}  // namespace dfmoa::cuda_emulation
