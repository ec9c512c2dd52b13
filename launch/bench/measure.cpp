#include "launch/bench/measure.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <utility>

#include "src/base/error.h"

namespace dfmoa::launch::bench {
namespace {

/// A line of /proc/self/status in bytes: VmRSS (resident now) or VmHWM (its peak).
std::int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != key + ":") continue;
    std::int64_t kibibytes = 0;
    status >> kibibytes;
    return kibibytes * 1024;
  }
  throw base::MachineError("/proc/self/status has no line " + key);
}

/// Sets VmHWM back to VmRSS; false where the system does not let it.
bool reset_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double Measured::median() const {
  return bench::median(seconds);
}

Measured measure(const Repeat& repeat, const std::function<void()>& work) {
  Measured measured;
  const bool is_peak_known = reset_peak();
  const auto before = status_bytes("VmRSS");
  for (int i = 0; i < repeat.warm_up; ++i) work();
  for (int i = 0; i < repeat.samples; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> lasted = std::chrono::steady_clock::now() - begin;
    measured.seconds.push_back(lasted.count());
  }
  if (!is_peak_known) return measured;
  measured.peak_bytes = status_bytes("VmHWM");
  measured.extra_bytes = std::max<std::int64_t>(0, measured.peak_bytes - before);
  return measured;
}

Bar timed(std::string id, std::string what, const Measured& measured) {
  Bar bar{std::move(id), std::move(what), measured.median(), "s", measured.seconds};
  bar.peak_bytes = measured.peak_bytes;
  bar.extra_bytes = measured.extra_bytes;
  return bar;
}

}  // namespace dfmoa::launch::bench
