// What every spread of a state over processes must satisfy: the same cases for threads and for MPI.
#pragma once

#include <algorithm>
#include <chrono>

#include "checkpoints/stream.h"
#include "checkpoints/writer.h"
#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/hash.h"
#include "tests/checkpoints/spread_state.h"

namespace dfmoa::checkpoints {

inline constexpr std::size_t kNoLimit = std::size_t{1} << 40;

/// Bytes of every batch that process 0 received since the records were cleared.
inline std::vector<std::int64_t> received_batches(comm::Communicator& comm) {
  std::vector<std::int64_t> bytes;
  for (const auto& record : comm.recorder().records()) {
    if (record.op == "all_to_all") bytes.push_back(record.elements);
  }
  comm.all_reduce(bytes.data(), static_cast<std::int64_t>(bytes.size()), base::DType::i64,
                  comm::Op::sum, "batches");
  return bytes;
}

/// Every entry once, in name order, with the bytes of its owner; those of process 0 in place.
inline void check_visits(comm::Communicator& comm, const base::StateTree& tree, SmallState& whole,
                         std::size_t limit) {
  std::vector<std::string> names;
  stream_entries(tree, comm, limit, [&](const base::StateEntry& entry) {
    names.push_back(entry.name);
    const auto& listed = tree.entry(entry.name);
    const auto& expected = whole.bytes().at(entry.name);
    EXPECT_EQ(entry.dtype, listed.dtype);
    EXPECT_EQ(entry.shape, listed.shape);
    if (entry.owner == 0) {
      EXPECT_EQ(entry.data, listed.data) << entry.name << " was copied";
    }
    ASSERT_EQ(entry.bytes(), expected.size());
    if (expected.empty()) return;
    ASSERT_NE(entry.data, nullptr) << entry.name;
    EXPECT_EQ(std::memcmp(entry.data, expected.data(), expected.size()), 0) << entry.name;
  });
  std::vector<std::string> expected;
  if (comm.process() == 0) {
    for (const auto& [name, entry] : tree.entries()) expected.push_back(name);
  }
  EXPECT_EQ(names, expected);
}

inline void check_spreads(comm::Communicator& comm) {
  for (const int shift : {0, 1, 2, 3}) {
    SpreadState state(11, comm.process(), comm.num_processes(), shift);
    for (const std::size_t limit : {std::size_t{0}, std::size_t{1}, std::size_t{100},
                                    std::size_t{1000}, kStreamBytes, kNoLimit}) {
      comm.recorder().clear();
      check_visits(comm, state.tree(), state.whole(), limit);
      std::int64_t largest = 0;
      std::int64_t remote = 0;
      for (const auto& [name, entry] : state.tree().entries()) {
        if (entry.owner == 0 || entry.bytes() == 0) continue;
        largest = std::max(largest, static_cast<std::int64_t>(entry.bytes()));
        ++remote;
      }
      const auto batches = received_batches(comm);
      for (const auto bytes : batches) {
        EXPECT_GT(bytes, 0);
        EXPECT_LE(bytes, std::max(largest, static_cast<std::int64_t>(limit)));
      }
      const auto count = static_cast<std::int64_t>(batches.size());
      EXPECT_LE(count, remote);
      if (limit <= 1) {
        EXPECT_EQ(count, remote);
      } else if (limit == kNoLimit) {
        EXPECT_EQ(count, remote > 0 ? 1 : 0);
      }
    }
  }
}

/// What lies on a process that does not own it is never looked at.
inline void check_stale(comm::Communicator& comm) {
  SpreadState state(11, comm.process(), comm.num_processes(), 1);
  SpreadState stale(12, 0, 1);
  base::StateTree tree;
  for (auto [name, entry] : state.tree().entries()) {
    if (entry.owner != comm.process()) entry.data = stale.tree().entry(name).data;
    tree.add(entry);
  }
  check_visits(comm, tree, state.whole(), 1000);
}

/// All are out of the same collectives: what follows meets.
inline void check_still_together(comm::Communicator& comm) {
  const auto mine = comm.recorder().hash();
  std::vector<std::int64_t> all(static_cast<std::size_t>(comm.num_processes()));
  comm.all_gather(&mine, 1, all.data(), base::DType::i64, "after the failure");
  for (const auto other : all) EXPECT_EQ(other, mine);
}

/// Batches of one array each up to the one that the entry at `nth` came in or after: what process 0
/// owns is visited with the batch before it, and with the first one if there is none.
inline std::int64_t batches_until(const base::StateTree& tree, std::size_t nth) {
  std::int64_t all = 0;
  std::int64_t until = 0;
  std::size_t index = 0;
  for (const auto& [name, entry] : tree.entries()) {
    if (entry.owner != 0 && entry.bytes() > 0) ++all;
    if (index++ <= nth) until = all;
  }
  return std::min(all, std::max<std::int64_t>(until, 1));
}

/// `visit` throws at each entry in turn: all know it in seconds, and nothing is visited after it.
inline void check_throwing_visits(comm::Communicator& comm) {
  SpreadState state(11, comm.process(), comm.num_processes(), 1);
  const auto entries = state.tree().entries().size();
  for (std::size_t nth = 0; nth < entries; nth += 2) {
    for (const std::size_t limit : {std::size_t{1}, std::size_t{1000}, kNoLimit}) {
      std::size_t visited = 0;
      comm.recorder().clear();
      const auto start = std::chrono::steady_clock::now();
      const auto sentence = sentence_of<base::MachineError>([&] {
        stream_entries(state.tree(), comm, limit, [&](const base::StateEntry& /*entry*/) {
          if (visited++ == nth) throw base::MachineError("the disk is full");
        });
      });
      EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
      EXPECT_EQ(sentence, comm.process() == 0
                              ? "the disk is full"
                              : "checkpoint stream: it failed on another process, which says why");
      EXPECT_EQ(visited, comm.process() == 0 ? nth + 1 : 0);
      if (limit == 1) {
        const auto batches = static_cast<std::int64_t>(received_batches(comm).size());
        EXPECT_EQ(batches, batches_until(state.tree(), nth)) << "sent after the failure";
      }
      check_still_together(comm);
    }
  }
}

/// An owner without data is named by its process and stops all.
inline void check_missing_data(comm::Communicator& comm) {
  SpreadState state(11, comm.process(), comm.num_processes());
  const int owner = comm.num_processes() - 1;
  base::StateTree tree;
  for (auto [name, entry] : state.tree().entries()) {
    if (name == "odd/64") entry = {name, entry.dtype, entry.shape, nullptr, owner};
    tree.add(entry);
  }
  const auto words = sentence_of<base::Error>(
      [&] { stream_entries(tree, comm, 1, [](const base::StateEntry& /*entry*/) {}); });
  if (comm.process() == owner) {
    EXPECT_TRUE(says(words, "state odd/64: process " + std::to_string(owner) +
                                " owns it and has no data, expected 64 bytes"));
  }
  check_still_together(comm);
}

/// The hash of a spread state is that of the state.
inline void check_hashes(comm::Communicator& comm) {
  for (const int shift : {0, 1, 3}) {
    SpreadState state(11, comm.process(), comm.num_processes(), shift);
    base::Hash128 expected;
    for (const auto& [name, bytes] : state.whole().bytes()) {
      expected.add_text(name);
      expected.add(bytes.data(), bytes.size());
    }
    EXPECT_EQ(hash_of(state.tree(), comm), expected.hex());
    const auto& changed = state.tree().entry("odd/7");
    if (changed.data != nullptr) static_cast<unsigned char*>(changed.data)[3] ^= 1U;
    EXPECT_NE(hash_of(state.tree(), comm), expected.hex());
  }
}

/// The files of a spread state are, byte for byte, those of a single process.
inline void check_files(comm::Communicator& comm, const std::filesystem::path& folder) {
  const auto single = folder / "single";
  if (comm.process() == 0) {
    SpreadState state(11, 0, 1);
    save_checkpoint(single, state.tree(), 5, *comm::make_single(), {});
  }
  for (const int shift : {0, 1, 2}) {
    SpreadState state(11, comm.process(), comm.num_processes(), shift);
    const auto many = folder / ("shift_" + std::to_string(shift));
    save_checkpoint(many, state.tree(), 5, comm, {});
    if (comm.process() != 0) continue;
    for (const char* name :
         {"latest", "step_00000005/checkpoint.h5", "step_00000005/manifest.json"}) {
      EXPECT_TRUE(base::read_file(many / name) == base::read_file(single / name)) << name;
    }
  }
  comm.barrier("files");
}

}  // namespace dfmoa::checkpoints
