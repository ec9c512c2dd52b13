#include "checkpoints/config.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace dfmoa::checkpoints {
namespace {

TEST(CheckpointConfig, reads_its_section) {
  CheckpointConfig config;
  auto list = base::FieldList::of(config);
  list.assign("checkpoint", "every", "50");
  list.assign("checkpoint", "keep_last", "2");
  list.assign("checkpoint", "keep_every", "1000");
  list.assign("checkpoint", "require_bitwise", "true");
  EXPECT_EQ(config.every, 50);
  EXPECT_TRUE(config.require_bitwise);
  EXPECT_EQ(config.retention(7).keep_last, 2);
  EXPECT_EQ(config.retention(7).keep_every, 1000);
  EXPECT_EQ(config.retention(7).best, -1);
  list.assign("checkpoint", "keep_best", "true");
  EXPECT_EQ(config.retention(7).best, 7);
}

TEST(CheckpointConfig, keeps_at_least_one) {
  CheckpointConfig config;
  auto list = base::FieldList::of(config);
  EXPECT_THROW(list.assign("checkpoint", "keep_last", "0"), base::UsageError);
  EXPECT_THROW(list.assign("checkpoint", "every", "-1"), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
