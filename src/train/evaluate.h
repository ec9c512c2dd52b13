// What a model knows of held-out files: cross-entropy, exact match and the use of experts, by task.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "src/data/sample.h"
#include "src/data/tokenizer.h"
#include "src/train/gate_use.h"

namespace dfmoa::train {

/// The task of samples that name none.
inline constexpr const char* kNoTask = "none";

struct EvaluateOptions {
  std::int64_t tokens_per_row = 512;                 ///< a longer document has a row of its own
  bool exact_match = false;                          ///< also generate, greedily
  std::int64_t max_new_tokens = 64;                  ///< for exact match
  std::int64_t batch = 16;                           ///< prompts generated from at a time
  std::function<void(std::int64_t samples)> on_row;  ///< told after every row how many were read
};

struct TaskFigures {
  double ce = 0;  ///< nats per token that bears loss
  double perplexity = 1;
  std::int64_t tokens = 0;  ///< that bear loss
  std::int64_t items = 0;   ///< documents
  /// Share of the samples with an expected completion whose generated text equals it, blanks at
  /// both ends aside. Absent when not asked for or without such a sample.
  std::optional<double> exact_match;
  std::optional<double> stderr_;  ///< of exact_match: sqrt(p (1 - p) / n)
};

struct Evaluation {
  std::map<std::string, TaskFigures> tasks;
  TaskFigures total;  ///< of all documents: tasks weigh by their tokens
  std::vector<RouterUse> routers;
  LoadOfTask load_of_task;        ///< mean_load of `routers`
  double mutual_information = 0;  ///< mean_mutual_information of `routers`
  std::string prompts_hash;  ///< XXH3-128 of the tokens of all prompts: equal prompts, equal hash
  std::int64_t skipped = 0;  ///< broken lines passed over (data.skip_bad_lines)
};

/// Reads every sample of `files` once, without gradients.
/// Throws what data::for_each_row throws; ContentError for files without any sample, a prompt
/// without tokens (exact match), or one too long for the model; MachineError for logits that are
/// not finite.
[[nodiscard]] Evaluation evaluate(const model::Transformer& model, const data::Tokenizer& tokenizer,
                                  const data::SampleReader& reader,
                                  const std::vector<std::string>& files,
                                  const EvaluateOptions& options);

/// As `dfmoa eval --json` prints it: {"model", "tasks", "total", "prompts_hash"} and, for a model
/// with routers, "load" and "mutual_information".
[[nodiscard]] nlohmann::json to_json(const Evaluation& evaluation, const std::string& model);

/// The same in the shape of lm-eval's results.json, which other tools read.
[[nodiscard]] nlohmann::json to_lm_eval_json(const Evaluation& evaluation,
                                             const std::string& model);

}  // namespace dfmoa::train
