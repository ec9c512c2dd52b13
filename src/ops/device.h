// Where a run computes.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace dfmoa::ops {

/// The device that `name` asks for: cpu; cuda; auto, a GPU where this program can use one and the
/// CPU elsewhere. The processes of a host take its GPUs in turn. `option` is what people set.
///
/// A GPU is chosen together with torch's deterministic algorithms: a run repeats bit for bit there
/// too. Throws UsageError for cuda where it cannot be had, saying what is missing.
[[nodiscard]] at::Device choose_device(const std::string& name, int process,
                                       const std::string& option);

/// For the log: "the CPU (auto: no GPU that this program can use)", "the CPU", "cuda:0".
[[nodiscard]] std::string describe_device(const std::string& name, at::Device device);

/// For the comparison of two runs' last bits: our kernels' level and torch's, "avx2, torch AVX2".
[[nodiscard]] std::string cpu_instructions();

}  // namespace dfmoa::ops
