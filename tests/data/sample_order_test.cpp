#include "src/data/sample_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace dfmoa::data {
namespace {

std::vector<std::int64_t> epoch_of(const SampleOrder& order, std::int64_t count,
                                   std::int64_t epoch) {
  std::vector<std::int64_t> lines;
  for (std::int64_t i = 0; i < count; ++i) lines.push_back(order.line(epoch * count + i));
  return lines;
}

TEST(SampleOrder, every_epoch_is_a_permutation) {
  for (const std::int64_t count : {1, 2, 3, 4, 5, 17, 64, 65, 1000, 4097}) {
    const SampleOrder order(count, 7, true);
    std::vector<std::int64_t> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      auto lines = epoch_of(order, count, epoch);
      std::sort(lines.begin(), lines.end());
      EXPECT_EQ(lines, all) << count << " lines, epoch " << epoch;
    }
  }
}

TEST(SampleOrder, epochs_and_seeds_differ_and_equal_seeds_agree) {
  const SampleOrder order(100, 1, true);
  EXPECT_NE(epoch_of(order, 100, 0), epoch_of(order, 100, 1));
  EXPECT_NE(epoch_of(order, 100, 0), epoch_of(SampleOrder(100, 2, true), 100, 0));
  EXPECT_EQ(epoch_of(order, 100, 5), epoch_of(SampleOrder(100, 1, true), 100, 5));
}

TEST(SampleOrder, file_order_is_the_lines_in_turn) {
  const SampleOrder order(3, 1, false);
  EXPECT_EQ(epoch_of(order, 3, 4), (std::vector<std::int64_t>{0, 1, 2}));
}

TEST(SampleOrder, every_line_stands_everywhere_equally_often) {
  // Chi-square of (line, place) counts over 3,000 epochs: 81 degrees of freedom, sd 12.7.
  constexpr std::int64_t kLines = 10;
  constexpr std::int64_t kEpochs = 3000;
  const SampleOrder order(kLines, 3, true);
  std::vector<double> seen(kLines * kLines, 0.0);
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    for (std::int64_t i = 0; i < kLines; ++i) {
      seen[static_cast<std::size_t>(i * kLines + order.line(epoch * kLines + i))] += 1;
    }
  }
  double chi_square = 0;
  constexpr double kExpected = static_cast<double>(kEpochs) / kLines;
  for (const double count : seen)
    chi_square += (count - kExpected) * (count - kExpected) / kExpected;
  EXPECT_LT(chi_square, 81 + 5 * 12.7);
  EXPECT_GT(chi_square, 81 - 5 * 12.7);
}

TEST(SampleOrder, golden_order_stays_what_checkpoints_were_written_with) {
  EXPECT_EQ(epoch_of(SampleOrder(8, 42, true), 8, 0),
            (std::vector<std::int64_t>{5, 2, 3, 6, 0, 4, 7, 1}));
}

}  // namespace
}  // namespace dfmoa::data
