// What a run tells: metrics.jsonl, TensorBoard events and one line a step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "src/formats/tensorboard.h"

namespace dfmoa::train {

/// Figures of one step by name: train/ce, router/BLOCK/ROUTER/load_cv and so on.
using Figures = std::map<std::string, double>;

class Metrics {
 public:
  /// Appends to run_folder/metrics.jsonl, after its last whole line. Throws MachineError if it
  /// cannot be opened.
  Metrics(const std::filesystem::path& run_folder, bool tensorboard);

  /// Writes every figure and flushes. Throws MachineError naming the file.
  void write(std::int64_t step, const Figures& figures);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
  std::unique_ptr<formats::EventWriter> events_;
};

/// Largest resident memory of this process, bytes.
[[nodiscard]] std::int64_t peak_memory_bytes();

/// The same since `restart_peak`: reading a model or a checkpoint maps whole files, which is no
/// part of a step. Where the system does not allow a restart, since the start of the process.
void restart_peak();
[[nodiscard]] std::int64_t peak_since_restart();

}  // namespace dfmoa::train
