// main() of the tests that run under mpirun: all processes share every verdict.
#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>

#include "distributed/comm/mpi.h"

namespace {

/// A failure on any process ends the program on all of them at once: the others may be waiting in a
/// collective that this process will never enter, and later collectives would not match any more.
class SharedVerdict : public testing::EmptyTestEventListener {
  void OnTestEnd(const testing::TestInfo& info) override {
    if (!info.result()->Failed()) {
      MPI_Barrier(MPI_COMM_WORLD);
      return;
    }
    std::fprintf(stderr, "%s.%s failed on some process\n", info.test_suite_name(), info.name());
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
};

}  // namespace

int main(int argc, char** argv) {
  const dfmoa::comm::MpiEnvironment mpi;
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new SharedVerdict);
  const int result = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
    std::fprintf(stderr, "no test was selected\n");
    return 1;
  }
  return result;
}
