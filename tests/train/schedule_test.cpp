#include "src/train/schedule.h"

#include <gtest/gtest.h>

namespace dfmoa::train {
namespace {

TEST(ScheduleTest, warms_up_linearly_and_ends_at_the_final_share) {
  TrainConfig train;
  train.steps = 100;
  train.warmup = 10;
  train.final_rate = 0.1;
  EXPECT_DOUBLE_EQ(rate_share(train, 0), 0.1);
  EXPECT_DOUBLE_EQ(rate_share(train, 9), 1.0);
  EXPECT_NEAR(rate_share(train, 100), 0.1, 1e-12);
  // A quarter, half and three quarters of the way from step 10 to step 90: cos of 45, 90, 135.
  train.steps = 90;
  EXPECT_NEAR(rate_share(train, 30), 0.1 + 0.9 * 0.5 * (1 + 0.70710678118654752), 1e-12);
  EXPECT_NEAR(rate_share(train, 50), 0.1 + 0.9 * 0.5, 1e-12);
  EXPECT_NEAR(rate_share(train, 70), 0.1 + 0.9 * 0.5 * (1 - 0.70710678118654752), 1e-12);
  train.schedule = "constant";
  EXPECT_DOUBLE_EQ(rate_share(train, 89), 1.0);
}

}  // namespace
}  // namespace dfmoa::train
