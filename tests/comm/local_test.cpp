#include "distributed/comm/local.h"

#include "src/base/error.h"
#include "tests/comm/collective_cases.h"

using namespace dfmoa;

class LocalCommunicator : public testing::TestWithParam<int> {};

TEST_P(LocalCommunicator, reductions_equal_their_closed_form) {
  comm::run_local(GetParam(), tests::check_reductions);
}

TEST_P(LocalCommunicator, exchanges_equal_their_closed_form) {
  comm::run_local(GetParam(), tests::check_exchanges);
}

TEST_P(LocalCommunicator, broadcast_votes_and_texts_reach_everybody) {
  comm::run_local(GetParam(), tests::check_control);
}

INSTANTIATE_TEST_SUITE_P(Processes, LocalCommunicator, testing::Values(1, 2, 3, 4));

TEST(LocalWorld, one_failed_process_frees_the_others_and_reaches_the_caller) {
  EXPECT_THROW(comm::run_local(3,
                               [](comm::Communicator& comm) {
                                 if (comm.process() == 1) throw base::ContentError("broken");
                                 comm.barrier("never");
                               }),
               base::ContentError);
}

TEST(LocalWorld, single_is_a_world_of_one) {
  const auto comm = comm::make_single();
  EXPECT_EQ(comm->num_processes(), 1);
  double value = 3;
  comm->all_reduce(&value, 1, base::DType::f64, comm::Op::sum, "x");
  EXPECT_EQ(value, 3);
}
