#include "tests/support/pretend_device/device_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <csignal>
#include <cstring>
#include <new>
#include <string_view>

namespace dfmoa::pretend {
namespace {

constexpr std::size_t kBytes = std::size_t{1} << 30;  // of addresses; only what is used is backed
std::atomic<std::byte*> memory_begin{nullptr};        // a signal handler can reach nothing else

/// Says what happened, then dies of it as it would have.
void explain_fault(int signal, siginfo_t* info, void* /*context*/) {
  auto* const begin = memory_begin.load();
  auto* const address = static_cast<std::byte*>(info->si_addr);
  if (begin != nullptr && address >= begin && address < begin + kBytes) {
    constexpr std::string_view text = "host code touched the memory of the pretend accelerator\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
  }
  ::signal(signal, SIG_DFL);
}

}  // namespace

DeviceMemory& DeviceMemory::instance() {
  static DeviceMemory memory;
  return memory;
}

DeviceMemory::DeviceMemory() {
  void* mapped = ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        /*fd=*/-1, /*offset=*/0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  begin_ = static_cast<std::byte*>(mapped);
  memory_begin = begin_;
  struct sigaction action {};
  action.sa_sigaction = explain_fault;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &action, nullptr);
}

void* DeviceMemory::take(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const auto size = std::bit_ceil(std::max<std::size_t>(bytes, 64));
  std::byte* block = nullptr;
  {
    const std::lock_guard lock(mutex_);
    auto& free = free_[size];
    if (!free.empty()) {
      block = free.back();
      free.pop_back();
    } else {
      if (end_ + size > kBytes) throw std::bad_alloc();
      block = begin_ + end_;
      end_ += size;
    }
    size_of_[block] = size;
  }
  const Access access;
  std::memset(block, 0xFF, size);
  return block;
}

void DeviceMemory::give_back(void* pointer) {
  if (pointer == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto found = size_of_.find(pointer);
  free_[found->second].push_back(static_cast<std::byte*>(pointer));
  size_of_.erase(found);
}

void DeviceMemory::open() {
  const std::lock_guard lock(mutex_);
  if (open_++ == 0) ::mprotect(begin_, kBytes, PROT_READ | PROT_WRITE);
}

void DeviceMemory::close() {
  const std::lock_guard lock(mutex_);
  if (--open_ == 0) ::mprotect(begin_, kBytes, PROT_NONE);
}

}  // namespace dfmoa::pretend
