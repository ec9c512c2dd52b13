#include "distributed/comm/mpi.h"

#include "src/base/error.h"
#include "tests/comm/collective_cases.h"

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

TEST(MpiWorld, chunks_that_mpi_cannot_count_are_refused) {
  EXPECT_THROW((void)make_mpi_world(0), base::ShapeError);
  EXPECT_THROW((void)make_mpi_world(kLargestChunk + 1), base::ShapeError);
}

TEST(MpiWorld, a_launcher_is_seen) {
  EXPECT_TRUE(started_by_launcher());
}

}  // namespace
}  // namespace dfmoa::comm
