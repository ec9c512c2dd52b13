// A program that must fail: one process throws while the others wait for it in a collective
// of a part, with another in flight.
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "distributed/comm/mpi.h"

TEST(LoneFailure, ends_every_process) {
  const auto comm = dfmoa::comm::make_mpi_world();
  const auto part = comm->split(0, "all");
  std::vector<double> mine(1000000);
  std::vector<double> all(3 * mine.size());
  auto pending = part->start_all_gather(mine.data(), std::ssize(mine), all.data(),
                                        dfmoa::base::DType::f64, "never");
  if (comm->process() == 1) throw std::runtime_error("only here");
  pending.wait();
  part->barrier("never");
}
