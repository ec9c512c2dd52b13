#include "distributed/comm/local.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

/// What the threads of one world share: a place to publish a pointer, and a barrier.
class World {
 public:
  struct Published {
    const void* data = nullptr;
    std::span<const std::int64_t> sizes;
    Record call;
  };

  explicit World(int num_processes)
      : published_(static_cast<std::size_t>(num_processes)), waiting_for_(num_processes) {}

  /// Waits until every thread has come. Throws MachineError once any of them has failed or ended.
  void meet() {
    std::unique_lock lock(mutex_);
    const auto round = round_;
    if (gone_ == nullptr && --waiting_for_ == 0) {
      waiting_for_ = static_cast<int>(published_.size());
      ++round_;
      all_here_.notify_all();
    }
    all_here_.wait(lock, [&] { return round_ != round || gone_ != nullptr; });
    if (round_ == round) throw base::MachineError(gone_);
  }
  /// A thread has failed: everybody is to stop, in all parts of this world. The first reason stays.
  void fail() { stop("another process failed and will not come", kEverybody); }
  /// A thread has ended: those who wait for it are to stop, here and in its parts of this world.
  /// Parts it is not in may have more to do.
  void leave(int process) { stop("another process ended and will not come", process); }

  /// A world of some of these threads, in this order.
  std::shared_ptr<World> add_part(const std::vector<int>& members) {
    auto part = std::make_shared<World>(static_cast<int>(members.size()));
    const std::lock_guard lock(mutex_);
    if (gone_ != nullptr) throw base::MachineError(gone_);
    parts_.push_back({part, members});
    return part;
  }
  std::vector<Published>& published() { return published_; }

 private:
  struct Part {
    std::weak_ptr<World> world;
    std::vector<int> members;
  };
  static constexpr int kEverybody = -1;

  void stop(const char* why, int process) {
    const std::lock_guard lock(mutex_);
    if (gone_ == nullptr) gone_ = why;
    all_here_.notify_all();
    for (const auto& [weak, members] : parts_) {
      const auto part = weak.lock();
      if (part == nullptr) continue;
      const auto member = std::find(members.begin(), members.end(), process);
      if (process == kEverybody) part->stop(why, kEverybody);
      if (member != members.end()) part->stop(why, static_cast<int>(member - members.begin()));
    }
  }

  std::mutex mutex_;
  std::condition_variable all_here_;
  std::vector<Published> published_;
  std::vector<Part> parts_;
  int waiting_for_;
  std::uint64_t round_ = 0;
  const char* gone_ = nullptr;
};

/// Empty if all processes called the same; else both calls.
std::string difference_of(const std::vector<World::Published>& all) {
  for (std::size_t p = 1; p < all.size(); ++p) {
    if (all[p].call.matches(all[0].call)) continue;
    return base::text("process ", p, " called ", describe(all[p].call), ", process 0 called ",
                      describe(all[0].call));
  }
  return {};
}

/// Carries a collective out where it is started: nothing is left to wait for.
class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<World> world, int process, int num_processes)
      : Communicator(process, num_processes), world_(std::move(world)) {}
  LocalCommunicator(std::shared_ptr<World> world, int process, int num_processes,
                    const Communicator& whole)
      : Communicator(process, num_processes, whole), world_(std::move(world)) {}

 private:
  /// Publishes, lets everybody read everybody's, and waits until all have read. `read` returns what
  /// is wrong: it is thrown after that wait, when nobody looks at this thread's memory any more.
  template <class Read>
  void exchange(const void* data, std::span<const std::int64_t> sizes, Read&& read) {
    world_->published()[static_cast<std::size_t>(process())] = {data, sizes, current()};
    world_->meet();
    auto problem = difference_of(world_->published());
    if (problem.empty()) problem = read(world_->published());
    world_->meet();
    if (!problem.empty()) throw base::MachineError(problem);
  }

  std::unique_ptr<InFlight> do_all_gather(const void* in, std::size_t bytes_each,
                                          void* out) override {
    exchange(in, {}, [&](const auto& all) {
      for (std::size_t p = 0; p < all.size() && bytes_each > 0; ++p) {
        std::memmove(static_cast<char*>(out) + p * bytes_each, all[p].data, bytes_each);
      }
      return std::string();
    });
    return nullptr;
  }

  std::unique_ptr<InFlight> do_all_reduce(void* data, std::int64_t count, base::DType dtype,
                                          Op op) override {
    if (num_processes() == 1) return nullptr;
    std::vector<std::byte> total(static_cast<std::size_t>(count) * base::size_of(dtype));
    exchange(data, {}, [&](const auto& all) {
      std::vector<const void*> parts;
      for (const auto& one : all) parts.push_back(one.data);
      reduce_parts(total.data(), parts, count, dtype, op);
      return std::string();
    });
    if (!total.empty()) std::memcpy(data, total.data(), total.size());
    return nullptr;
  }

  std::unique_ptr<InFlight> do_all_to_all(const void* send,
                                          std::span<const std::int64_t> send_bytes, void* receive,
                                          std::span<const std::int64_t> receive_bytes) override {
    exchange(send, send_bytes, [&](const auto& all) {
      auto* to = static_cast<char*>(receive);
      const auto mine = static_cast<std::size_t>(process());
      for (std::size_t p = 0; p < all.size(); ++p) {
        const auto size = all[p].sizes[mine];
        if (size != receive_bytes[p]) {
          return base::text("process ", p, " sends ", size, " bytes, expected ", receive_bytes[p]);
        }
        const auto* from = static_cast<const char*>(all[p].data);
        for (std::size_t before = 0; before < mine; ++before) from += all[p].sizes[before];
        if (size > 0) std::memcpy(to, from, static_cast<std::size_t>(size));
        to += size;
      }
      return std::string();
    });
    return nullptr;
  }

  void do_broadcast(void* data, std::size_t bytes, int root) override {
    exchange(data, {}, [&](const auto& all) {
      if (process() != root && bytes > 0) {
        std::memcpy(data, all[static_cast<std::size_t>(root)].data, bytes);
      }
      return std::string();
    });
  }

  void do_barrier() override {
    exchange(nullptr, {}, [](const auto&) { return std::string(); });
  }

  /// The first member of a part makes its world, the others take it over.
  std::unique_ptr<Communicator> do_split(int color) override {
    std::vector<int> members;
    exchange(&color, {}, [&](const auto& all) {
      for (std::size_t p = 0; p < all.size(); ++p) {
        if (*static_cast<const int*>(all[p].data) == color) members.push_back(static_cast<int>(p));
      }
      return std::string();
    });
    const bool is_first = members.front() == process();
    auto part = is_first ? world_->add_part(members) : nullptr;
    exchange(&part, {}, [&](const auto& all) {
      const auto first = static_cast<std::size_t>(members.front());
      if (!is_first) part = *static_cast<const std::shared_ptr<World>*>(all[first].data);
      return std::string();
    });
    const auto mine = std::find(members.begin(), members.end(), process()) - members.begin();
    return std::make_unique<LocalCommunicator>(std::move(part), static_cast<int>(mine),
                                               static_cast<int>(members.size()), *this);
  }

  std::shared_ptr<World> world_;
};

}  // namespace

std::unique_ptr<Communicator> make_single() {
  return std::make_unique<LocalCommunicator>(std::make_shared<World>(1), 0, 1);
}

void run_local(int num_processes, const std::function<void(Communicator&)>& body) {
  const auto world = std::make_shared<World>(num_processes);
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (int process = 0; process < num_processes; ++process) {
    threads.emplace_back([&, process] {
      try {
        LocalCommunicator communicator(world, process, num_processes);
        body(communicator);
        world->leave(process);
      } catch (...) {  // kept for the caller
        {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
        }
        world->fail();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace dfmoa::comm
