// What is predicted of a step, as people read it.
#pragma once

#include <cstdint>
#include <string>

#include "src/train/step_cost.h"
#include "src/train/trainer.h"

namespace dfmoa::launch {

/// "3.1 MB", "12 B": powers of 1,000.
[[nodiscard]] std::string bytes_text(double bytes);
/// "2.3 GiB", as the memory of a device is told.
[[nodiscard]] std::string gib_text(double bytes);
/// "1.2 s", "35 ms", "0.4 us".
[[nodiscard]] std::string seconds_text(double seconds);
/// "EP 2 x 1, transport move_weights"; "transport replicate" where every process is a copy.
[[nodiscard]] std::string spread_text(const distributed::Spread& spread);
/// "6 of 8 processes have no micro-batch of their own: ..."; empty where each has one.
[[nodiscard]] std::string idle_text(int processes, std::int64_t micro_batches);
/// A line per part and their sum.
[[nodiscard]] std::string memory_table(const std::vector<distributed::MemoryPart>& parts);
/// "base 34 MB, adapters 2.1 MB, ...", parts of 0 left out.
[[nodiscard]] std::string memory_text(const std::vector<distributed::MemoryPart>& parts);
/// Lines "plan | actual": bytes per step, peak memory, seconds in collectives. The plan was made
/// before the first step of this start. Of memory `peak_bytes` are the most that a process took;
/// 0 leaves the line out.
[[nodiscard]] std::string plan_against_actual(const train::StepCost& plan,
                                              const train::StepsCost& actual,
                                              std::int64_t peak_bytes);

}  // namespace dfmoa::launch
