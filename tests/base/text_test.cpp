#include "src/base/text.h"

#include <gtest/gtest.h>

using namespace dfmoa::base;

TEST(Text, joins_splits_trims) {
  EXPECT_EQ(text("a", 1, ' ', 2.5), "a1 2.5");
  EXPECT_EQ(split(" a, b ,,c", ','), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(join({"a", "b"}, "-"), "a-b");
  EXPECT_EQ(trim(" \t x \r\n"), "x");
  EXPECT_EQ(shape_text({2, 3}), "(2, 3)");
}

TEST(Text, nearest_by_edit_distance) {
  EXPECT_EQ(nearest("learnig_rate", {"steps", "learning_rate", "seed"}), "learning_rate");
  EXPECT_EQ(nearest("x", {}), "");
}

TEST(Text, numbers_read_back) {
  EXPECT_EQ(number_text(0.1), "0.1");
  EXPECT_EQ(std::stod(number_text(1.0 / 3.0)), 1.0 / 3.0);
}
