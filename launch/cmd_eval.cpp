#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "launch/commands.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/data/choices.h"
#include "src/data/jsonl.h"
#include "src/data/text_file.h"
#include "src/ops/device.h"
#include "src/train/full_evaluation.h"
#include "src/train/open_model.h"

namespace dfmoa::launch {
namespace {

void print_row(const std::string& task, const train::TaskFigures& figures) {
  std::printf("%-24s %6lld %8lld %9.4f %11.3f", task.c_str(), static_cast<long long>(figures.items),
              static_cast<long long>(figures.tokens), figures.ce, figures.perplexity);
  if (figures.exact_match) std::printf("  %6.3f +- %.3f", *figures.exact_match, *figures.stderr_);
  std::printf("\n");
}

void print_table(const train::Evaluation& evaluation) {
  std::printf("%-24s %6s %8s %9s %11s  %s\n", "task", "items", "tokens", "ce", "perplexity",
              evaluation.total.exact_match ? "exact match" : "(--exact-match compares answers)");
  for (const auto& [task, figures] : evaluation.tasks) print_row(task, figures);
  print_row("total", evaluation.total);
  if (evaluation.load_of_task.empty()) return;
  std::printf("\nmean gate of every expert\n");
  for (const auto& [task, load] : evaluation.load_of_task) {
    std::printf("%-24s", task.c_str());
    for (const double share : load) std::printf(" %.3f", share);
    std::printf("\n");
  }
  std::printf("mutual information of expert and task: %.4f nats\n", evaluation.mutual_information);
}

void print_choices(const train::FullEvaluation& evaluation) {
  const auto print = [](const std::string& task, const train::ChoiceFigures& figures) {
    std::printf("%-24s %6lld  %6.3f +- %.3f  %6.3f +- %.3f\n", task.c_str(),
                static_cast<long long>(figures.items), figures.acc, figures.stderr_,
                figures.acc_norm, figures.stderr_norm);
  };
  std::printf("%-24s %6s  %-15s  %-15s\n", "task", "items", "   acc", "   acc_norm");
  for (const auto& [task, figures] : evaluation.choices) print(task, figures);
  if (evaluation.choices.size() > 1) print("total", evaluation.all_choices);
}

void print_tables(const train::FullEvaluation& evaluation) {
  if (evaluation.documents) print_table(*evaluation.documents);
  if (evaluation.documents && !evaluation.choices.empty()) std::printf("\n");
  if (!evaluation.choices.empty()) print_choices(evaluation);
  if (!evaluation.forgetting) return;
  if (evaluation.documents || !evaluation.choices.empty()) std::printf("\n");
  std::printf("%-24s %15s %15s\n%-24s %15.3f %15.3f\n",
              base::text("forgetting, ", evaluation.forgetting->tokens, " tokens").c_str(), "base",
              "this model", "perplexity", evaluation.forgetting->base_perplexity,
              evaluation.forgetting->perplexity);
}

void list_eval_options(Options& options) {
  namespace po = boost::program_options;
  options.add()("data", po::value<std::vector<std::string>>()->composing(),
                "JSONL file, repeatable (default: data.eval of the run, where nothing else is "
                "asked)")("choices", po::value<std::vector<std::string>>()->composing(),
                          "multiple choice by likelihood: FILE or NAME=FILE, repeatable")(
      "limit", po::value<std::int64_t>()->default_value(0),
      "items of each file of --choices at most; 0: all")(
      "plain", "ask --choices without the model's chat template")(
      "log-samples", po::value<std::string>(),
      "write the log-likelihoods of every item of --choices to this JSONL file")(
      "forgetting", po::value<std::string>(),
      "perplexity of base and model on a text, or on lines of {\"text\"} (.jsonl)")(
      "gates", po::value<std::string>()->default_value("soft"),
      "soft: as trained; topk, topk:K (default the router's top_k), top1: the largest gates, "
      "scaled "
      "to the sum of all; mean: each expert's mean over the tokens of the data; expert:I: one "
      "alone, "
      "with the sum of all")("base", po::value<std::string>(),
                             "base model folder, where it has moved")(
      "device", po::value<std::string>()->default_value("auto"), "auto, cpu or cuda")(
      "exact-match", "also generate greedily and compare with the completion")(
      "max-new-tokens", po::value<std::int64_t>()->default_value(64), "for exact match")(
      "batch", po::value<std::int64_t>()->default_value(16), "prompts generated from at a time")(
      "output", po::value<std::string>(),
      "also write a results.json as lm-eval does, to this file")("json", "print JSON");
  options.add_epilogue(data::choices_help());
}

/// Options that mean something only beside others.
void check_together(const Options& options) {
  const auto need = [&](const char* name, bool is_given, const char* needed) {
    if (is_given)
      throw base::UsageError(base::text("eval: --", name, " needs --", needed, " FILE"));
  };
  const bool no_choices = !options.has("choices");
  need("plain", options.has("plain") && no_choices, "choices");
  need("log-samples", options.has("log-samples") && no_choices, "choices");
  need("limit", options.get<std::int64_t>("limit") > 0 && no_choices, "choices");
  const bool other_is_asked = options.has("choices") || options.has("forgetting");
  need("exact-match", options.has("exact-match") && other_is_asked && !options.has("data"), "data");
}

/// What was asked, with all files but the run's own read or looked for.
train::EvaluationRequest read_request(const Options& options) {
  train::EvaluationRequest request;
  request.options = {512,
                     options.has("exact-match"),
                     options.get<std::int64_t>("max-new-tokens"),
                     options.get<std::int64_t>("batch"),
                     {}};
  if (request.options.batch < 1 || request.options.max_new_tokens < 1) {
    throw base::UsageError(base::text("eval: --batch ", request.options.batch,
                                      ", --max-new-tokens ", request.options.max_new_tokens,
                                      ": expected 1 or more"));
  }
  const auto limit = options.get<std::int64_t>("limit");
  if (limit < 0)
    throw base::UsageError(base::text("eval: --limit ", limit, ": expected 0 or more"));
  check_together(options);
  request.gates = gates::Override::parse(options.text("gates"));
  request.files = options.list("data");
  if (!request.files.empty()) (void)data::JsonlFiles(request.files);
  for (const auto& argument : options.list("choices")) {
    const auto items = data::read_choices(data::choice_file(argument), limit);
    request.choices.insert(request.choices.end(), items.begin(), items.end());
  }
  request.forgetting = options.text("forgetting");
  if (!request.forgetting.empty()) (void)data::TextFile(request.forgetting, "");
  request.plain = options.has("plain");
  return request;
}

/// Results go to files and stdout.
void report(const train::EvaluationRequest& request, const train::FullEvaluation& evaluation,
            const Options& options) {
  if (options.has("log-samples")) {
    base::replace_file(options.text("log-samples"),
                       train::sample_lines(request.choices, evaluation.scored));
  }
  if (options.has("output")) {
    const auto results = train::to_lm_eval_json(evaluation, options.text("MODEL"));
    base::replace_file(options.text("output"), results.dump(2) + "\n");
  }
  if (options.has("json")) {
    auto json = train::to_json(evaluation, options.text("MODEL"));
    if (options.text("gates") != "soft") json["gates"] = options.text("gates");
    std::cout << json.dump() << "\n";
  } else {
    print_tables(evaluation);
  }
}

}  // namespace

base::ExitCode run_eval(const Arguments& arguments) {
  Options options("eval",
                  "Cross-entropy, exact match, multiple choice and forgetting of a model, run or "
                  "checkpoint.",
                  {"MODEL"});
  list_eval_options(options);
  if (!options.parse(arguments)) return base::ExitCode::done;
  auto request = read_request(options);
  base::Logger log(true, options.verbose());
  const auto device = ops::choose_device(options.text("device"), 0, "--device");
  const auto opened = train::open_model(options.text("MODEL"), options.text("base"), log, device);
  const bool is_asked = !request.choices.empty() || !request.forgetting.empty();
  if (request.files.empty() && !is_asked) request.files = opened.config.data.eval;
  if (request.files.empty() && !is_asked) throw base::UsageError("eval: --data FILE is missing");
  const auto evaluation =
      train::evaluate_all(*opened.model, *opened.tokenizer, *opened.reader, request);
  const auto skipped = evaluation.documents ? evaluation.documents->skipped : 0;
  if (skipped > 0) {
    log.warn(base::text(skipped, " broken lines were passed over (data.skip_bad_lines)"));
  }
  report(request, evaluation, options);
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
