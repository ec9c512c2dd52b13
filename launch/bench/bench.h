// The measurements by name. Every one measures this program; peers are run by tests/bench/peers.py.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "launch/bench/measure.h"

namespace dfmoa::launch::bench {

struct BenchOptions {
  Repeat repeat;
  std::string model;  ///< a base model folder; the whole-step bars need one
  std::string data;   ///< JSONL with short documents; G6b needs it
  std::int64_t tokens = 512;
};

/// What the machine can do at best, measured in the same run.
struct Limits {
  double copy_bytes_per_s = 0;  ///< read + written, from memory to memory
  double mm_flops_per_s = 0;    ///< fp32 product of the dominant shape, (T, 576) x (576, 1536)
};

[[nodiscard]] Limits measure_limits(const BenchOptions& options);

struct Measurement {
  std::string id;
  std::string what;
  std::function<std::vector<Bar>(const BenchOptions&, const Limits&)> run;
  std::string needs;  ///< "", "model" or "data": the option without which it cannot run
};

[[nodiscard]] std::vector<Measurement> kernel_measurements();
[[nodiscard]] std::vector<Measurement> linear_measurements();
[[nodiscard]] std::vector<Measurement> step_measurements();
[[nodiscard]] std::vector<Measurement> system_measurements();

/// All of them, in the order of their ids.
[[nodiscard]] std::vector<Measurement> all_measurements();

}  // namespace dfmoa::launch::bench
