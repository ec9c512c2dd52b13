// Repeated measurement of one piece of work: seconds of every repetition, and memory.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace dfmoa::launch::bench {

struct Repeat {
  int warm_up = 3;
  int samples = 9;
};

struct Measured {
  std::vector<double> seconds;
  std::int64_t peak_bytes = 0;   ///< largest resident memory while it ran; 0: not known
  std::int64_t extra_bytes = 0;  ///< of that, above what was resident before

  [[nodiscard]] double median() const;
};

[[nodiscard]] double median(std::vector<double> values);

[[nodiscard]] Measured measure(const Repeat& repeat, const std::function<void()>& work);

/// One line of the result (JSON: bars[]). `bar` and `stretch` are set where this program alone can
/// judge; what needs another program beside it is judged by tests/bench/peers.py.
struct Bar {
  std::string id;
  std::string what;
  double value = 0;
  std::string unit;
  std::vector<double> samples;  ///< in the unit of `value`, or the seconds behind a ratio
  std::int64_t peak_bytes = 0;
  std::int64_t extra_bytes = 0;
  std::optional<double> bar = std::nullopt;
  std::optional<double> stretch = std::nullopt;
};

/// A bar whose value is the median time of `measured`.
[[nodiscard]] Bar timed(std::string id, std::string what, const Measured& measured);

}  // namespace dfmoa::launch::bench
