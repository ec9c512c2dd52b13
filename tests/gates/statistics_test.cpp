#include "src/gates/statistics.h"

#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

TEST(StatisticsLayout, entries_follow_each_other_without_a_gap) {
  const StatisticsLayout layout{3};
  EXPECT_EQ(layout.probability(), 0);
  EXPECT_EQ(layout.count(), 3);
  EXPECT_EQ(layout.entropy_p(), 6);
  EXPECT_EQ(layout.entropy_w(), 7);
  EXPECT_EQ(layout.units(), 8);
  EXPECT_EQ(layout.size(), 9);
  EXPECT_EQ(StatisticsLayout{0}.size(), 0);
}

TEST(LoadFigures, even_use_has_full_entropy_and_no_spread) {
  const std::vector<double> even{2, 2, 2, 2, 8, 8, 8, 8, 0, 0, 8};
  const auto figures = load_figures(even, {4});
  EXPECT_DOUBLE_EQ(figures.entropy, std::log(4.0));
  EXPECT_EQ(figures.load_cv, 0);
  EXPECT_EQ(figures.dead_fraction, 0);
}

TEST(LoadFigures, uneven_use_shows_in_every_figure) {
  const std::vector<double> uneven{3, 1, 0, 0, 4, 2, 0, 0, 0, 0, 4};
  const auto figures = load_figures(uneven, {4});
  EXPECT_DOUBLE_EQ(figures.entropy, -0.75 * std::log(0.75) - 0.25 * std::log(0.25));
  EXPECT_DOUBLE_EQ(figures.load_cv, std::sqrt((4.0 + 0 + 1 + 1) / 4));
  EXPECT_EQ(figures.dead_fraction, 0.5);
}

TEST(LoadFigures, an_expert_is_dead_where_no_unit_selects_it_whatever_its_probability) {
  const std::vector<double> unselected{3, 0.5, 0.25, 0.25, 4, 0, 4, 0, 0, 0, 4};
  EXPECT_EQ(load_figures(unselected, {4}).dead_fraction, 0.5);
}

TEST(LoadFigures, without_any_unit_all_figures_are_zero) {
  const auto figures = load_figures(std::vector<double>(7, 0.0), {2});
  EXPECT_EQ(figures.entropy, 0);
  EXPECT_EQ(figures.load_cv, 0);
  EXPECT_EQ(figures.dead_fraction, 0);
}

}  // namespace
}  // namespace dfmoa::gates
