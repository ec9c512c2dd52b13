// One function on a stack of its own that can stop in the middle and go on later.
#pragma once

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace dfmoa::cuda_emulation {

/// Stacks that finished fibers hand on to new ones.
class StackPool {
 public:
  static constexpr std::size_t kBytes = 64U << 10;

  std::byte* take();
  void give_back(std::byte* stack) { free_.push_back(stack); }

 private:
  std::vector<std::unique_ptr<std::byte[]>> all_;
  std::vector<std::byte*> free_;
};

/// The address sanitizer is told of every switch, so that its view of the stack stays right. A
/// fiber must be finished before it is destroyed.
class Fiber {
 public:
  /// Runs `body` until it waits or ends; later calls go on where it waited.
  void resume(StackPool& stacks, const std::function<void()>& body);

  /// Called inside `body`: back to the caller of resume.
  void wait();

  [[nodiscard]] bool has_started() const { return stack_ != nullptr; }

 private:
  boost::context::fiber enter(boost::context::fiber&& caller, const std::function<void()>& body);

  boost::context::fiber self_;
  boost::context::fiber caller_;
  std::byte* stack_ = nullptr;
  void* fake_stack_ = nullptr;
  const void* caller_bottom_ = nullptr;
  std::size_t caller_bytes_ = 0;
};

}  // namespace dfmoa::cuda_emulation
