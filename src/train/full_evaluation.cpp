#include "src/train/full_evaluation.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/loader.h"
#include "src/model/gate_means.h"

namespace dfmoa::train {
namespace {

void evaluate_choices(model::Transformer& model, const data::SampleReader& reader,
                      const EvaluationRequest& request, FullEvaluation& result) {
  const ChoiceRows rows(request.choices, reader, request.options.tokens_per_row,
                        request.plain || !reader.has_template());
  model::override_gates(model, request.gates,
                        [&](model::GateSink& sink) { rows.watch(model, sink); });
  result.scored = rows.score(model);
  result.choices = choice_figures(request.choices, result.scored);
  result.all_choices = all_choice_figures(request.choices, result.scored);
}

void evaluate_forgetting(model::Transformer& model, const data::SampleReader& reader,
                         const EvaluationRequest& request, FullEvaluation& result) {
  const auto tokens =
      std::min(request.options.tokens_per_row, model.base().architecture.max_positions);
  const auto rows = rows_of_text(request.forgetting, reader, tokens, model.reads_prompts());
  model::override_gates(model, request.gates, [&](model::GateSink& sink) {
    for (const auto& row : rows) (void)model.hidden(model.pack(row), nullptr, &sink);
  });
  result.forgetting = measure_forgetting(model, rows);
}

nlohmann::json choices_json(const ChoiceFigures& figures) {
  return {{"items", figures.items},
          {"acc", figures.acc},
          {"acc_norm", figures.acc_norm},
          {"stderr", figures.stderr_}};
}

}  // namespace

FullEvaluation evaluate_all(model::Transformer& model, const data::Tokenizer& tokenizer,
                            const data::SampleReader& reader, const EvaluationRequest& request) {
  model.override_gates(request.gates);  // refused before anything is read
  FullEvaluation result;
  if (!request.files.empty()) {
    model::override_gates(model, request.gates, [&](model::GateSink& sink) {
      data::for_each_row(request.files, reader, request.options.tokens_per_row,
                         [&](const data::PackedRow& row, const std::vector<data::Sample>&) {
                           (void)model.hidden(model.pack(row), nullptr, &sink);
                         });
    });
    result.documents = evaluate(model, tokenizer, reader, request.files, request.options);
    for (const auto& item : request.choices) {
      if (!result.documents->tasks.contains(item.task)) continue;
      throw base::ContentError(base::text(item.where, ": the documents have a task ", item.task,
                                          " too, expected another name for one of them"));
    }
  }
  if (!request.choices.empty()) evaluate_choices(model, reader, request, result);
  if (!request.forgetting.empty()) evaluate_forgetting(model, reader, request, result);
  return result;
}

nlohmann::json to_json(const FullEvaluation& evaluation, const std::string& model) {
  nlohmann::json json = {{"model", model}, {"tasks", nlohmann::json::object()}};
  if (evaluation.documents) json = to_json(*evaluation.documents, model);
  for (const auto& [task, figures] : evaluation.choices)
    json["tasks"][task] = choices_json(figures);
  if (!evaluation.documents && !evaluation.choices.empty()) {
    json["total"] = choices_json(evaluation.all_choices);
  }
  if (evaluation.forgetting) {
    json["forgetting"] = {{"base_perplexity", evaluation.forgetting->base_perplexity},
                          {"perplexity", evaluation.forgetting->perplexity},
                          {"tokens", evaluation.forgetting->tokens}};
  }
  return json;
}

nlohmann::json to_lm_eval_json(const FullEvaluation& evaluation, const std::string& model) {
  auto json = to_lm_eval_json(evaluation.documents.value_or(Evaluation()), model);
  for (const auto& [task, figures] : evaluation.choices) {
    json["results"][task] = {{"alias", task},
                             {"acc,none", figures.acc},
                             {"acc_stderr,none", figures.stderr_},
                             {"acc_norm,none", figures.acc_norm},
                             {"acc_norm_stderr,none", figures.stderr_norm}};
    json["n-samples"][task] = {{"original", figures.items}, {"effective", figures.items}};
  }
  if (evaluation.forgetting) {
    const auto& found = *evaluation.forgetting;
    json["results"]["forgetting"] = {{"alias", "forgetting"},
                                     {"base_perplexity,none", found.base_perplexity},
                                     {"perplexity,none", found.perplexity}};
  }
  return json;
}

}  // namespace dfmoa::train
