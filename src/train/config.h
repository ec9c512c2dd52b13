// [train], [log] and the whole configuration of a run: every section next to the code that reads
// it, assembled here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoints/config.h"
#include "distributed/config.h"
#include "src/base/fields.h"
#include "src/data/config.h"
#include "src/model/transformer.h"

namespace dfmoa::train {

struct TrainConfig {
  std::int64_t steps = 100;
  std::int64_t seed = 1;
  std::int64_t micro_batches = 1;
  std::int64_t tokens = 512;
  std::int64_t documents = 0;
  std::string device = "auto";
  std::string precision = "fp32";
  std::string memory = "keep";
  std::string statistics = "exact";
  std::string optimizer = "adamw";
  double learning_rate = 2e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double clip = 1.0;
  std::int64_t warmup = -1;
  std::string schedule = "cosine";
  double final_rate = 0.0;
  std::int64_t evaluate_every = 0;

  void fields(base::FieldList& list);

  /// Steps of linear warm-up: `warmup`, or 3 % of the steps.
  [[nodiscard]] std::int64_t warmup_steps() const;
};

struct LogConfig {
  std::int64_t every = 1;
  bool tensorboard = true;
  double peak_tflops = 0;

  void fields(base::FieldList& list);
};

/// Sections [model] [data] [adapter.NAME] [router.NAME] [rank.NAME] [parallel] [train] [checkpoint]
/// [log].
struct RunConfig {
  model::ModelConfig model;
  data::DataConfig data;
  model::AdapterPlan plan;
  distributed::ParallelConfig parallel;
  TrainConfig train;
  checkpoints::CheckpointConfig checkpoint;
  LogConfig log;

  /// Throws UsageError for keys that need others.
  void validate() const;

  /// Sets one key, "train.steps" or "adapter.main.rank"; a named section comes into being.
  /// Throws UsageError for an unknown section or key, naming the nearest, and for bad values.
  void set(const std::string& key, const std::string& value);

  /// Every key with its value in file order, e.g. {"train.steps", "40"}.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> resolved() const;
  /// The same as an INI file.
  [[nodiscard]] std::string ini() const;

  /// Keys that may differ at a resume without changing what is computed.
  [[nodiscard]] static bool is_free(const std::string& key);
};

/// Every section with its keys, defaults and their meaning, for --help.
[[nodiscard]] std::string keys_text();

/// Fields of every section with its name, for --help and for printing; named sections once each.
[[nodiscard]] std::vector<std::pair<std::string, base::FieldList>> sections_of(RunConfig& config);

}  // namespace dfmoa::train
