#include "src/train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "src/base/file.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::train {
namespace {

class MetricsTest : public formats::TemporaryFolder {
 protected:
  std::vector<nlohmann::json> lines() const {
    std::vector<nlohmann::json> all;
    std::istringstream text(base::read_file(folder_ / "metrics.jsonl"));
    for (std::string line; std::getline(text, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }
};

TEST_F(MetricsTest, every_figure_is_a_line_of_json_whatever_its_name) {
  const std::string name = "eval/loss/say \"hi\"\\n\n";
  Metrics(folder_, false).write(3, {{name, 0.5}, {"train/ce", std::nan("")}});
  const auto all = lines();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]["key"], name);
  EXPECT_EQ(all[0]["value"], 0.5);
  EXPECT_EQ(all[0]["step"], 3);
  EXPECT_TRUE(all[1]["value"].is_null());
}

/// A full disk or a kill: the next start goes on after the last whole line.
TEST_F(MetricsTest, half_a_line_at_the_end_is_taken_away) {
  Metrics(folder_, false).write(1, {{"train/ce", 1}});
  const auto whole = base::read_file(folder_ / "metrics.jsonl");
  for (const std::string& half : {std::string("{\"step\": 2, \"ti"), std::string()}) {
    base::write_file(folder_ / "metrics.jsonl", whole + half);
    Metrics(folder_, false).write(2, {{"train/ce", 2}});
    ASSERT_EQ(lines().size(), 2U);
    EXPECT_EQ(lines()[1]["step"], 2);
  }
  base::write_file(folder_ / "metrics.jsonl", "{\"st");
  Metrics(folder_, false).write(2, {{"train/ce", 2}});
  EXPECT_EQ(lines().size(), 1U);
}

/// Memory that is gone again counts until the next restart.
TEST(PeakMemory, counts_anew_after_a_restart) {
  const auto use = [](std::size_t bytes) {
    const std::vector<char> memory(bytes, 1);
    return memory[bytes / 2];
  };
  constexpr std::int64_t kBytes = 200'000'000;
  restart_peak();
  const auto before = peak_since_restart();
  EXPECT_EQ(use(kBytes), 1);
  const auto after = peak_since_restart();
  EXPECT_GE(after, before + kBytes * 9 / 10);
  EXPECT_LE(after, peak_memory_bytes());
  restart_peak();
  EXPECT_LE(peak_since_restart(), after - kBytes / 2);
  EXPECT_GE(peak_memory_bytes(), after);  // of all its time, restarts or none
}

}  // namespace
}  // namespace dfmoa::train
