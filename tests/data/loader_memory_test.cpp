// How much memory two million lines cost.
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "src/data/loader.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

/// A line of /proc/self/status, in bytes.
std::int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return -1;
}

class LoaderMemory : public SmallData {};

TEST_F(LoaderMemory, two_million_lines_grow_it_by_less_than_100_MB) {
  constexpr std::int64_t kLines = 2'000'000;
  const auto path = (folder_ / "large.jsonl").string();
  {
    std::ofstream out(path);
    for (std::int64_t i = 0; i < kLines; ++i) {
      out << R"({"task": "t", "prompt": "What is )" << i << R"( + 1?", "completion": ")" << i + 1
          << "\"}\n";
    }
  }
  config_.train = {path};
  const auto read = reader(config_);
  ::malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak counts from here
  const auto before = status_bytes("VmRSS");
  for (int pass = 0; pass < 2; ++pass) {  // scanned and written, then read
    Loader stream(config_, {.micro_batches = 4, .tokens = 512}, read, 1);
    EXPECT_EQ(stream.samples_per_epoch(), kLines);
    for (int step = 0; step < 50; ++step) (void)stream.next_step();
  }
  const auto growth = status_bytes("VmHWM") - before;
  RecordProperty("growth_bytes", std::to_string(growth));
  std::printf("growth %.1f MB\n", static_cast<double>(growth) / 1e6);
  EXPECT_GT(growth, 1'000'000) << "the measurement does not see anything";
  EXPECT_LT(growth, 100'000'000);
}

}  // namespace
}  // namespace dfmoa::data
