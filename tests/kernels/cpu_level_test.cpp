#include "kernels/cpu_level.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

using namespace dfmoa;
using namespace dfmoa::kernels;

TEST(CpuLevel, names_read_back) {
  for (const CpuLevel level : {CpuLevel::reference, CpuLevel::avx2, CpuLevel::avx512}) {
    EXPECT_EQ(cpu_level_from(name_of(level), CpuLevel::avx512), level);
  }
}

TEST(CpuLevel, unknown_word_and_missing_level_are_usage_errors) {
  EXPECT_THROW((void)cpu_level_from("sse", CpuLevel::avx512), base::UsageError);
  EXPECT_THROW((void)cpu_level_from("", CpuLevel::avx512), base::UsageError);
  EXPECT_THROW((void)cpu_level_from("avx512", CpuLevel::avx2), base::UsageError);
}

TEST(CpuLevel, never_above_the_machine) {
  EXPECT_LE(cpu_level(), machine_cpu_level());
}
