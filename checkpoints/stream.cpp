#include "checkpoints/stream.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <vector>

#include "checkpoints/cover.h"
#include "src/base/error.h"
#include "src/base/hash.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

/// Consecutive entries that reach process 0 by one exchange, or none if all of them are its own.
struct Batch {
  std::vector<const base::StateEntry*> entries;
  std::vector<std::int64_t> sent_P;  ///< bytes that each process sends
  std::size_t bytes = 0;             ///< their sum
};

std::size_t sent_bytes(const base::StateEntry& entry) {
  return entry.owner == 0 ? 0 : entry.bytes();
}

/// A function of what all processes list alike, and of nothing else: each of them must come to the
/// same batches.
std::vector<Batch> batches_of(const base::StateTree& tree, int num_processes, std::size_t limit) {
  const Batch empty{{}, std::vector<std::int64_t>(static_cast<std::size_t>(num_processes)), 0};
  std::vector<Batch> batches{empty};
  for (const auto& [name, entry] : tree.entries()) {
    if (entry.owner < 0 || entry.owner >= num_processes) {
      throw base::ContentError(base::text("state ", name, ": its owner is process ", entry.owner,
                                          " of ", num_processes));
    }
    const auto bytes = sent_bytes(entry);
    const auto held = batches.back().bytes;
    if (bytes > 0 && held > 0 && held + bytes > limit) batches.push_back(empty);
    auto& batch = batches.back();
    batch.entries.push_back(&entry);
    batch.sent_P[static_cast<std::size_t>(entry.owner)] += static_cast<std::int64_t>(bytes);
    batch.bytes += bytes;
  }
  return batches;
}

void require_data(const base::StateEntry& entry) {
  if (entry.data != nullptr || entry.bytes() == 0) return;
  throw base::ContentError(base::text("state ", entry.name, ": process ", entry.owner,
                                      " owns it and has no data, expected ", entry.bytes(),
                                      " bytes"));
}

/// Brings the entries of one batch after the other into memory of process 0.
class Transport {
 public:
  Transport(comm::Communicator& comm, const std::vector<Batch>& batches) : comm_(comm) {
    for (const auto& batch : batches) largest_ = std::max(largest_, batch.bytes);
  }

  /// Everything that can fail on one process alone, so that all can vote on it before they
  /// exchange.
  void prepare(const Batch& batch) {
    if (comm_.process() == 0) {
      if (received_.empty()) received_.resize(largest_);
    } else {
      pack(batch);
    }
  }

  void exchange(const Batch& batch) {
    const std::vector<std::int64_t> nothing(batch.sent_P.size());
    auto to_first = nothing;
    to_first[0] = batch.sent_P[static_cast<std::size_t>(comm_.process())];
    comm_.all_to_all(outgoing_, to_first, received_.data(),
                     comm_.process() == 0 ? batch.sent_P : nothing, base::DType::u8,
                     "checkpoint batch");
  }

  /// On process 0: the parts lie side by side in the order of the processes, each in name order.
  template <class Visit>
  void visit(const Batch& batch, Visit&& visit_entry) {
    std::vector<std::byte*> next_P;
    auto* begin = received_.data();
    for (const auto sent : batch.sent_P) {
      next_P.push_back(begin);
      begin += sent;
    }
    for (const auto* entry : batch.entries) {
      if (entry->owner == 0) {
        require_data(*entry);
        visit_entry(*entry);
        continue;
      }
      auto arrived = *entry;
      auto& next = next_P[static_cast<std::size_t>(entry->owner)];
      arrived.data = arrived.bytes() == 0 ? nullptr : next;
      next += arrived.bytes();
      visit_entry(arrived);
    }
  }

 private:
  /// A lone entry, which may be larger than any batch, is sent from where it lies.
  void pack(const Batch& batch) {
    const auto own =
        static_cast<std::size_t>(batch.sent_P[static_cast<std::size_t>(comm_.process())]);
    packed_.clear();
    outgoing_ = nullptr;
    for (const auto* entry : batch.entries) {
      const auto bytes = sent_bytes(*entry);
      if (entry->owner != comm_.process() || bytes == 0) continue;
      require_data(*entry);
      outgoing_ = entry->data;
      if (bytes == own) return;
      packed_.reserve(own);
      const auto* from = static_cast<const std::byte*>(entry->data);
      packed_.insert(packed_.end(), from, from + bytes);
      outgoing_ = packed_.data();
    }
  }

  comm::Communicator& comm_;
  std::size_t largest_ = 0;
  std::vector<std::byte> received_;
  std::vector<std::byte> packed_;
  const void* outgoing_ = nullptr;
};

/// The first failure of this process, kept until all processes vote.
class Failure {
 public:
  /// Nothing is attempted after a failure.
  template <class Work>
  void attempt(Work&& work) {
    if (failure_) return;
    try {
      work();
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  /// Collective. Throws on every process if any failed, on that one what it caught.
  void vote(comm::Communicator& comm) const {
    if (comm.agree(failure_ == nullptr, "checkpoint stream")) return;
    if (failure_) std::rethrow_exception(failure_);
    throw base::MachineError("checkpoint stream: it failed on another process, which says why");
  }

 private:
  std::exception_ptr failure_;
};

}  // namespace

void stream_entries(const base::StateTree& tree, comm::Communicator& comm, std::size_t limit_bytes,
                    const std::function<void(const base::StateEntry&)>& visit) {
  const auto batches = batches_of(tree, comm.num_processes(), limit_bytes);
  Transport transport(comm, batches);
  Failure failure;
  for (const auto& batch : batches) {
    if (batch.bytes > 0) {
      failure.attempt([&] { transport.prepare(batch); });
      failure.vote(comm);
      transport.exchange(batch);
    }
    if (comm.process() == 0) failure.attempt([&] { transport.visit(batch, visit); });
  }
  failure.vote(comm);
}

std::string hash_of(const base::StateTree& tree, comm::Communicator& comm) {
  check_cover(tree, comm);
  base::Hash128 hash;
  stream_entries(tree, comm, kStreamBytes, [&](const base::StateEntry& entry) {
    hash.add_text(entry.name);
    hash.add(entry.data, entry.bytes());
  });
  auto digits = hash.hex();
  comm.broadcast(digits.data(), static_cast<std::int64_t>(digits.size()), base::DType::u8, 0,
                 "checkpoint hash");
  return digits;
}

}  // namespace dfmoa::checkpoints
