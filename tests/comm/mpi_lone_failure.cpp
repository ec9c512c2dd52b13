// A program that must fail: one process throws while the others wait for it in a collective.
#include <gtest/gtest.h>

#include <stdexcept>

#include "distributed/comm/mpi.h"

TEST(LoneFailure, ends_every_process) {
  const auto comm = dfmoa::comm::make_mpi_world();
  if (comm->process() == 1) throw std::runtime_error("only here");
  comm->barrier("never");
}
