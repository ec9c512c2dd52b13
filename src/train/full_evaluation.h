// All that `dfmoa eval` can ask of a model: documents, multiple choice, forgetting, other gates.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "src/gates/override.h"
#include "src/train/choices.h"
#include "src/train/evaluate.h"
#include "src/train/forgetting.h"

namespace dfmoa::train {

/// What is asked; empty: not asked.
struct EvaluationRequest {
  std::vector<std::string> files;         ///< JSONL documents
  std::vector<data::ChoiceItem> choices;  ///< multiple choice
  std::string forgetting;                 ///< text of the base model's own kind
  gates::Override gates;
  bool plain = false;  ///< multiple choice without the chat template
  EvaluateOptions options;
};

struct FullEvaluation {
  std::optional<Evaluation> documents;
  std::map<std::string, ChoiceFigures> choices;  ///< by task
  ChoiceFigures all_choices;
  std::vector<ScoredItem> scored;  ///< in the order of the request's items
  std::optional<Forgetting> forgetting;
};

/// Mean gates are the means over the tokens of what is asked: of all documents for the documents,
/// of all choices for these, of the text for forgetting. The model keeps the gates it had last.
/// Throws what evaluate, ChoiceRows, measure_forgetting and Transformer::override_gates throw;
/// ContentError for a task that documents and choices both have.
[[nodiscard]] FullEvaluation evaluate_all(model::Transformer& model,
                                          const data::Tokenizer& tokenizer,
                                          const data::SampleReader& reader,
                                          const EvaluationRequest& request);

/// As `dfmoa eval --json` prints it. To what to_json of the documents has come, for tasks of
/// choices, {"items", "acc", "acc_norm", "stderr"}, and "forgetting": {"base_perplexity",
/// "perplexity", "tokens"}. "total" is of the documents, without any of all choices.
[[nodiscard]] nlohmann::json to_json(const FullEvaluation& evaluation, const std::string& model);

/// The same in the shape of lm-eval's results.json.
[[nodiscard]] nlohmann::json to_lm_eval_json(const FullEvaluation& evaluation,
                                             const std::string& model);

}  // namespace dfmoa::train
