#include "distributed/comm/mpi.h"

#include "src/base/error.h"
#include "tests/comm/started_cases.h"

namespace dfmoa::comm {
namespace {

/// Whole messages, and messages cut so small that every one is cut at odd places.
class MpiCommunicator : public testing::TestWithParam<std::size_t> {
 protected:
  std::unique_ptr<Communicator> comm_ = make_mpi_world(GetParam());
};

TEST_P(MpiCommunicator, reductions_equal_their_closed_form) {
  tests::check_reductions(*comm_);
}

TEST_P(MpiCommunicator, sums_are_added_in_process_order) {
  tests::check_order(*comm_);
}

TEST_P(MpiCommunicator, exchanges_equal_their_closed_form) {
  tests::check_exchanges(*comm_);
}

TEST_P(MpiCommunicator, broadcast_votes_and_texts_reach_everybody) {
  tests::check_control(*comm_);
}

TEST_P(MpiCommunicator, all_processes_hash_the_same_sequence) {
  tests::check_hash(*comm_);
}

TEST_P(MpiCommunicator, what_is_started_equals_its_closed_form) {
  tests::check_started(*comm_);
}

TEST_P(MpiCommunicator, processes_may_wait_in_different_orders) {
  tests::check_orders_of_waiting(*comm_);
}

TEST_P(MpiCommunicator, what_nobody_waited_for_ends_with_its_life) {
  tests::check_unwaited(*comm_);
}

TEST_P(MpiCommunicator, parts_hold_the_processes_of_one_color_in_order) {
  tests::check_split(*comm_);
  tests::check_split_again(*comm_);
}

TEST_P(MpiCommunicator, parts_and_the_whole_are_in_flight_together) {
  tests::check_parts_in_flight(*comm_);
}

TEST_P(MpiCommunicator, parts_share_the_recorder) {
  tests::check_recorder_of_parts(*comm_);
}

INSTANTIATE_TEST_SUITE_P(Chunks, MpiCommunicator, testing::Values(kLargestChunk, 13));

TEST(MpiWorld, another_count_is_an_error_not_a_short_read) {
  const auto comm = make_mpi_world();
  if (comm->num_processes() > 1) {
    // Every process but the first is told 16 bytes of whom it expects 8, or 8 of whom it
    // expects 16.
    const std::int64_t count = comm->process() == 0 ? 2 : 1;
    std::vector<double> mine(2);
    std::vector<double> all(2 * static_cast<std::size_t>(comm->num_processes()));
    try {
      comm->all_gather(mine.data(), count, all.data(), base::DType::f64, "C1");
      ADD_FAILURE() << "two counts were accepted";
    } catch (const std::exception& error) {
      const auto words = base::describe(error);
      EXPECT_NE(words.find("all_gather(C1) of " + std::to_string(count) + " F64"),
                std::string::npos)
          << words;
      EXPECT_NE(words.find(comm->process() == 0 ? "sent 8 bytes, expected 16" : "truncate"),
                std::string::npos)
          << words;
    }
  }
  tests::check_exchanges(*comm);  // nothing of it is left on the way
}

TEST(MpiWorld, large_messages_are_in_flight_together) {
  const auto comm = make_mpi_world();
  tests::run_in_flight(tests::in_flight_cases(200000), {comm.get()}, comm->process() % 2 == 1);
}

/// Large messages leave only when the other side takes them.
TEST(MpiWorld, what_is_given_up_waits_for_nobody_and_leaves_nothing_behind) {
  const auto comm = make_mpi_world();
  const auto part = comm->split(0, "all");
  for (const std::int64_t count : {10, 1000000}) {
    for (const bool everybody : {true, false}) {
      if (!everybody && count > 10) continue;  // the others would wait for the rest
      tests::AllGatherCase given_up(count, 7);
      tests::AllReduceCase sum(count, 9);
      const auto begin = std::chrono::steady_clock::now();
      try {
        auto gather = given_up.start(*part);
        auto reduction = everybody ? sum.start(*part) : Pending();
        if (everybody || comm->process() == 0) throw std::runtime_error("something else");
        gather.wait();
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "something else");
      }
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
      tests::check_exchanges(*part);
      tests::check_orders_of_waiting(*part);
    }
  }
}

TEST(MpiWorld, a_part_may_outlive_its_whole_and_mpi) {
  static std::unique_ptr<Communicator> part;  // gone after main()
  auto comm = make_mpi_world();
  part = comm->split(comm->process() % 2, "parity");
  tests::AllReduceCase sum(100, 3);
  auto pending = sum.start(*comm);
  comm.reset();
  pending.wait();
  sum.expect();
  tests::check_exchanges(*part);
}

TEST(MpiWorld, chunks_that_mpi_cannot_count_are_refused) {
  EXPECT_THROW((void)make_mpi_world(0), base::ShapeError);
  EXPECT_THROW((void)make_mpi_world(kLargestChunk + 1), base::ShapeError);
}

TEST(MpiWorld, a_launcher_is_seen) {
  EXPECT_TRUE(started_by_launcher());
}

}  // namespace
}  // namespace dfmoa::comm
