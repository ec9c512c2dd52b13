#include "checkpoints/stream.h"

#include <atomic>

#include "tests/checkpoints/stream_cases.h"

namespace dfmoa::checkpoints {
namespace {

/// On threads; mpi_test.cpp runs the same cases on processes.
class Stream : public testing::TestWithParam<int> {
 protected:
  static void run(void (*check)(comm::Communicator&)) { comm::run_local(GetParam(), check); }
};

TEST_P(Stream, shows_every_entry_in_name_order_with_the_bytes_of_its_owner) {
  run(check_spreads);
}

TEST_P(Stream, looks_only_at_what_the_owner_holds) {
  run(check_stale);
}

TEST_P(Stream, a_visit_that_throws_stops_all_at_once) {
  run(check_throwing_visits);
}

TEST_P(Stream, an_owner_without_data_stops_all) {
  run(check_missing_data);
}

TEST_P(Stream, hash_does_not_depend_on_the_owners) {
  run(check_hashes);
}

INSTANTIATE_TEST_SUITE_P(Processes, Stream, testing::Values(1, 2, 3, 4));

/// Arrays "0", "1", ... of the given owners and sizes, filled with a byte each.
struct Sized {
  std::vector<std::vector<unsigned char>> held;
  base::StateTree tree;

  explicit Sized(const std::vector<std::pair<int, std::size_t>>& arrays) {
    for (const auto& [owner, size] : arrays) {
      auto& bytes = held.emplace_back(size, static_cast<unsigned char>(held.size()));
      tree.add({std::to_string(held.size() - 1),
                base::DType::u8,
                {static_cast<std::int64_t>(size)},
                size == 0 ? nullptr : bytes.data(),
                owner});
    }
  }
};

std::vector<std::int64_t> batches_of(const std::vector<std::pair<int, std::size_t>>& arrays,
                                     std::size_t limit) {
  std::vector<std::int64_t> batches;
  comm::run_local(3, [&](comm::Communicator& comm) {
    const Sized state(arrays);
    stream_entries(state.tree, comm, limit, [](const base::StateEntry& /*entry*/) {});
    const auto mine = received_batches(comm);
    if (comm.process() == 0) batches = mine;
  });
  return batches;
}

TEST(StreamBatches, are_consecutive_entries_up_to_the_limit) {
  using Sizes = std::vector<std::int64_t>;
  // What process 0 owns and what is empty neither fills a batch nor ends one.
  EXPECT_EQ(batches_of({{1, 10}, {2, 20}, {0, 1000}, {1, 2}, {2, 0}, {1, 5}}, 32), (Sizes{32, 5}));
  EXPECT_EQ(batches_of({{1, 10}, {2, 20}, {1, 3}, {2, 5}}, 32), (Sizes{30, 8}));
  // Larger than the limit: alone, whatever stands around it.
  EXPECT_EQ(batches_of({{1, 10}, {2, 33}, {2, 5}, {0, 40}, {1, 5}}, 32), (Sizes{10, 33, 10}));
  EXPECT_EQ(batches_of({{0, 10}, {0, 40}, {1, 0}}, 32), Sizes{});
}

TEST(StreamOwner, outside_the_world_is_refused_by_all) {
  for (const int owner : {-1, 3}) {
    std::atomic<int> refused = 0;
    comm::run_local(3, [&](comm::Communicator& comm) {
      const Sized state({{1, 10}, {owner, 4}});
      const auto words = sentence_of<base::ContentError>(
          [&] { stream_entries(state.tree, comm, 32, [](const base::StateEntry& /*entry*/) {}); });
      EXPECT_TRUE(says(words, "state 1: its owner is process " + std::to_string(owner) + " of 3"));
      ++refused;
    });
    EXPECT_EQ(refused, 3);
  }
}

TEST(StreamHash, of_different_listings_is_refused_by_all) {
  std::atomic<int> refused = 0;
  comm::run_local(3, [&](comm::Communicator& comm) {
    const Sized state({{0, 10}, {1, comm.process() == 2 ? 5U : 4U}});
    EXPECT_THROW((void)hash_of(state.tree, comm), base::ContentError);
    ++refused;
  });
  EXPECT_EQ(refused, 3);
}

}  // namespace
}  // namespace dfmoa::checkpoints
