#include "src/base/error.h"

#include <gtest/gtest.h>

using namespace dfmoa::base;

TEST(Error, chain_reads_from_the_door_to_the_cause_and_keeps_the_code) {
  try {
    with_context("step 7", [] {
      with_context("reading a checkpoint", [] { throw ContentError("dataset A is misshapen"); });
    });
    FAIL() << "nothing was thrown";
  } catch (const std::exception& error) {
    EXPECT_EQ(describe(error), "step 7: reading a checkpoint: dataset A is misshapen");
    EXPECT_EQ(exit_code(error), ExitCode::content);
  }
}

TEST(Error, foreign_exception_is_the_machines) {
  EXPECT_EQ(exit_code(std::runtime_error("x")), ExitCode::machine);
  EXPECT_EQ(exit_code(UsageError("x")), ExitCode::usage);
  EXPECT_EQ(exit_code(MachineError("x")), ExitCode::machine);
  EXPECT_EQ(exit_code(ShapeError("x")), ExitCode::machine);
}

TEST(Error, context_returns_the_body_s_value) {
  EXPECT_EQ(with_context("adding", [] { return 3; }), 3);
}
