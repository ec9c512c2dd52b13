#include "tests/support/cuda_emulation/emulator.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <utility>
#include <vector>

#include "tests/support/cuda_emulation/fiber.h"

namespace dfmoa::cuda_emulation {
namespace {

constexpr std::size_t kSharedBytes = 227U << 10;  // what a block of sm_90 may use
constexpr std::size_t kGuardBytes = 64;
constexpr unsigned char kGuard = 0xA5;
constexpr std::size_t kArenaBytes = 2 * kSharedBytes;  // with guards and alignment
constexpr std::uint64_t kMostThreads = 1024;
constexpr std::size_t kWarp = 32;

/// Ends the threads of a block that has failed.
struct Abandoned {};

enum class State { ready, at_block_barrier, at_warp_barrier, done };

/// One CUDA thread.
struct Thread {
  Fiber fiber;
  State state = State::ready;
  Index3 index;
  std::source_location where;
  unsigned mask = 0;
  std::uint64_t brought = 0;
  std::array<std::uint64_t, 32> received{};
};

std::string at(std::source_location where) {
  const std::string file = where.file_name();
  std::ostringstream text;
  text << file.substr(file.rfind('/') + 1) << ":" << where.line();
  return text.str();
}

bool same_place(std::source_location a, std::source_location b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

/// One launch: runs its blocks one after another.
class Grid {
 public:
  Grid(const char* name, Extent3 grid, Extent3 block, std::size_t dynamic_bytes,
       const std::function<void()>& kernel, Settings settings)
      : name_(name),
        dynamic_bytes_(dynamic_bytes),
        kernel_(kernel),
        settings_(settings),
        random_(settings.seed),
        arena_(new std::byte[kArenaBytes]) {
    position_.grid_extent = grid;
    position_.block_extent = block;
    const std::uint64_t threads = block.count();
    if (threads == 0 || threads > kMostThreads || block.z > 64 || grid.count() == 0 ||
        grid.x > 0x7FFFFFFFU || grid.y > 65535 || grid.z > 65535 || dynamic_bytes > kSharedBytes) {
      std::ostringstream text;
      text << "a GPU refuses the launch: grid (" << grid.x << ", " << grid.y << ", " << grid.z
           << "), block (" << block.x << ", " << block.y << ", " << block.z << "), "
           << dynamic_bytes << " shared bytes";
      fail(text.str());
    }
  }

  void run() {
    for (const std::uint64_t block : in_order(position_.grid_extent.count())) {
      const Extent3 grid = position_.grid_extent;
      position_.block = {static_cast<unsigned>(block % grid.x),
                         static_cast<unsigned>(block / grid.x % grid.y),
                         static_cast<unsigned>(block / grid.x / grid.y)};
      start_block();
      try {
        run_block();
      } catch (...) {
        abandon_block();
        throw;
      }
    }
  }

  void* shared_memory(const void* key, std::size_t bytes) {
    const auto found = std::find_if(arrays_.begin(), arrays_.end(),
                                    [key](const auto& array) { return array.first == key; });
    if (found != arrays_.end()) return arena_.get() + found->second;
    return arena_.get() + add_array(key, bytes);
  }

  /// Gives the other threads their turn until this one may go on.
  void wait(State state, std::source_location where) {
    Thread& self = threads_[current_];
    self.state = state;
    self.where = where;
    self.fiber.wait();
    if (abandoned_) throw Abandoned{};
  }

  std::array<std::uint64_t, 32> warp_exchange(unsigned mask, std::uint64_t value,
                                              std::source_location where) {
    if ((mask >> lane() & 1U) == 0) fail(at(where) + ": the calling lane is not in its own mask");
    threads_[current_].mask = mask;
    threads_[current_].brought = value;
    wait(State::at_warp_barrier, where);
    return threads_[current_].received;
  }

  [[nodiscard]] unsigned lane() const { return static_cast<unsigned>(current_ % kWarp); }
  [[nodiscard]] const Position& position() const { return position_; }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    std::ostringstream text;
    text << what << " [kernel " << name_ << ", block (" << position_.block.x << ", "
         << position_.block.y << ", " << position_.block.z << ")]";
    throw KernelError(text.str());
  }

  /// Poisoned memory with a guard behind it; returns its place in the arena.
  std::size_t add_array(const void* key, std::size_t bytes) {
    const std::size_t begin = (arena_used_ + 127) / 128 * 128;
    if (shared_used_ + bytes > kSharedBytes) fail("more shared memory than a block may use");
    shared_used_ += bytes;
    arena_used_ = begin + bytes + kGuardBytes;
    std::memset(arena_.get() + begin, 0xFF, bytes);
    std::memset(arena_.get() + begin + bytes, kGuard, kGuardBytes);
    arrays_.emplace_back(key, begin);
    guards_.push_back(begin + bytes);
    return begin;
  }

  void check_guards() const {
    for (const std::size_t begin : guards_) {
      for (std::size_t i = 0; i < kGuardBytes; ++i) {
        if (arena_[begin + i] != std::byte{kGuard}) fail("wrote past the end of a shared array");
      }
    }
  }

  std::vector<std::uint64_t> in_order(std::uint64_t count) {
    std::vector<std::uint64_t> order(count);
    std::iota(order.begin(), order.end(), std::uint64_t{0});
    if (settings_.order == Order::reverse) std::reverse(order.begin(), order.end());
    if (settings_.order == Order::random) std::shuffle(order.begin(), order.end(), random_);
    return order;
  }

  void start_block() {
    arrays_.clear();
    guards_.clear();
    arena_used_ = 0;
    shared_used_ = 0;
    add_array(nullptr, dynamic_bytes_);
    const Extent3 extent = position_.block_extent;
    threads_.clear();
    threads_.resize(extent.count());
    for (unsigned i = 0; i < threads_.size(); ++i) {
      threads_[i].index = {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y};
    }
  }

  void run_block() {
    std::vector<std::uint64_t> order = in_order(threads_.size());
    std::size_t done = 0;
    while (done < threads_.size()) {
      if (settings_.order == Order::random) std::shuffle(order.begin(), order.end(), random_);
      bool moved = false;
      for (const std::uint64_t i : order) {
        if (threads_[i].state != State::ready) continue;
        moved = true;
        resume(i);
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
        if (threads_[i].state == State::done) ++done;
      }
      moved = release_warps() || moved;
      moved = release_block(done) || moved;
      if (!moved && done < threads_.size()) report_deadlock();
    }
    check_guards();
  }

  void resume(std::size_t i) {
    current_ = i;
    position_.thread = threads_[i].index;
    threads_[i].fiber.resume(stacks_, body_);
  }

  /// What every fiber runs.
  void run_thread() {
    const std::size_t self = current_;
    try {
      kernel_();
    } catch (const Abandoned&) {
    } catch (...) {
      failure_ = std::current_exception();
    }
    threads_[self].state = State::done;
  }

  /// Lets every thread that still waits leave its kernel, so that its stack is unwound.
  void abandon_block() {
    abandoned_ = true;
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      if (threads_[i].fiber.has_started() && threads_[i].state != State::done) resume(i);
    }
  }

  /// Frees the lanes of every mask whose lanes have all arrived.
  bool release_warps() {
    bool moved = false;
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      if (threads_[i].state != State::at_warp_barrier) continue;
      const std::size_t first = i / kWarp * kWarp;
      if (!mask_arrived(threads_[i], first)) continue;
      moved = true;
      const unsigned mask = threads_[i].mask;
      std::array<std::uint64_t, 32> all{};
      for (std::size_t k = 0; k < kWarp; ++k) {
        if ((mask >> k & 1U) != 0) all[k] = threads_[first + k].brought;
      }
      for (std::size_t k = 0; k < kWarp; ++k) {
        if ((mask >> k & 1U) == 0) continue;
        threads_[first + k].received = all;
        threads_[first + k].state = State::ready;
      }
    }
    return moved;
  }

  bool mask_arrived(const Thread& thread, std::size_t first) const {
    for (std::size_t k = 0; k < kWarp; ++k) {
      if ((thread.mask >> k & 1U) == 0) continue;
      if (first + k >= threads_.size()) fail(at(thread.where) + ": the mask names absent lanes");
      const Thread& other = threads_[first + k];
      if (other.state != State::at_warp_barrier) return false;
      if (other.mask != thread.mask || !same_place(other.where, thread.where)) {
        fail("lanes of one warp disagree: " + at(thread.where) + " meets " + at(other.where));
      }
    }
    return true;
  }

  bool release_block(std::size_t done) {
    const Thread* first = nullptr;
    std::size_t waiting = 0;
    for (const Thread& thread : threads_) {
      if (thread.state != State::at_block_barrier) continue;
      if (first == nullptr) first = &thread;
      if (!same_place(first->where, thread.where)) {
        fail("threads wait at different barriers: " + at(first->where) + " and " +
             at(thread.where));
      }
      ++waiting;
    }
    if (waiting == 0 || waiting + done < threads_.size()) return false;
    if (done > 0) {
      fail(at(first->where) + ": " + std::to_string(done) + " of " +
           std::to_string(threads_.size()) + " threads left before the barrier");
    }
    for (Thread& thread : threads_) thread.state = State::ready;
    return true;
  }

  [[noreturn]] void report_deadlock() const {
    std::string text = "deadlock:";
    int named = 0;
    for (std::size_t i = 0; i < threads_.size() && named < 4; ++i) {
      if (threads_[i].state == State::done) continue;
      text += " thread " + std::to_string(i) + " waits at " + at(threads_[i].where) + ";";
      ++named;
    }
    fail(text);
  }

  const char* name_;
  std::size_t dynamic_bytes_;
  const std::function<void()>& kernel_;
  Settings settings_;
  std::mt19937_64 random_;
  Position position_;
  std::unique_ptr<std::byte[]> arena_;
  std::size_t arena_used_ = 0;
  std::size_t shared_used_ = 0;  // without guards and alignment
  std::vector<std::size_t> guards_;
  std::vector<std::pair<const void*, std::size_t>> arrays_;
  StackPool stacks_;
  bool abandoned_ = false;
  const std::function<void()> body_ = [this] { run_thread(); };
  std::exception_ptr failure_;
  std::size_t current_ = 0;
  std::vector<Thread> threads_;
};

// The kernel's code reaches its grid as it would reach the hardware: without a parameter.
thread_local Grid* running_grid = nullptr;
thread_local Settings active_settings;

Grid& grid() {
  if (running_grid == nullptr) throw KernelError("a device function was called outside a launch");
  return *running_grid;
}

}  // namespace

OrderScope::OrderScope(Settings settings) : previous_(std::exchange(active_settings, settings)) {}
OrderScope::~OrderScope() {
  active_settings = previous_;
}

const Position& position() {
  return grid().position();
}

void launch(const char* name, Extent3 grid_extent, Extent3 block, std::size_t dynamic_bytes,
            const std::function<void()>& kernel) {
  Grid launched(name, grid_extent, block, dynamic_bytes, kernel, active_settings);
  struct Running {
    explicit Running(Grid* grid) : outer(std::exchange(running_grid, grid)) {}
    ~Running() { running_grid = outer; }
    Grid* outer;
  } running(&launched);
  launched.run();
}

void* shared_memory(const void* key, std::size_t bytes) {
  return grid().shared_memory(key, bytes);
}

void block_barrier(std::source_location where) {
  grid().wait(State::at_block_barrier, where);
}

std::array<std::uint64_t, 32> warp_exchange(unsigned mask, std::uint64_t value,
                                            std::source_location where) {
  return grid().warp_exchange(mask, value, where);
}

unsigned lane() {
  return grid().lane();
}

}  // namespace dfmoa::cuda_emulation
