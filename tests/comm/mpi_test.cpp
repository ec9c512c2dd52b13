#include "distributed/comm/mpi.h"

#include "tests/comm/collective_cases.h"

TEST(MpiCommunicator, reductions_equal_their_closed_form) {
  dfmoa::tests::check_reductions(*dfmoa::comm::make_mpi_world());
}

TEST(MpiCommunicator, exchanges_equal_their_closed_form) {
  dfmoa::tests::check_exchanges(*dfmoa::comm::make_mpi_world());
}

TEST(MpiCommunicator, broadcast_votes_and_texts_reach_everybody) {
  dfmoa::tests::check_control(*dfmoa::comm::make_mpi_world());
}
