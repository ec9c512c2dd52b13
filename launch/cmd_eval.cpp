#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "launch/commands.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/data/jsonl.h"
#include "src/ops/device.h"
#include "src/train/evaluate.h"
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

}  // namespace

base::ExitCode run_eval(const Arguments& arguments) {
  namespace po = boost::program_options;
  Options options("eval", "Cross-entropy and exact match of a model, run or checkpoint per task.",
                  {"MODEL"});
  options.add()("data", po::value<std::vector<std::string>>()->composing(),
                "JSONL file, repeatable (default: data.eval of the run)")(
      "base", po::value<std::string>(), "base model folder, where it has moved")(
      "device", po::value<std::string>()->default_value("auto"), "auto, cpu or cuda")(
      "exact-match", "also generate greedily and compare with the completion")(
      "max-new-tokens", po::value<std::int64_t>()->default_value(64), "for exact match")(
      "batch", po::value<std::int64_t>()->default_value(16), "prompts generated from at a time")(
      "output", po::value<std::string>(),
      "also write a results.json as lm-eval does, to this file")("json", "print JSON");
  if (!options.parse(arguments)) return base::ExitCode::done;
  const train::EvaluateOptions evaluated{512,
                                         options.has("exact-match"),
                                         options.get<std::int64_t>("max-new-tokens"),
                                         options.get<std::int64_t>("batch"),
                                         {}};
  if (evaluated.batch < 1 || evaluated.max_new_tokens < 1) {
    throw base::UsageError(base::text("eval: --batch ", evaluated.batch, ", --max-new-tokens ",
                                      evaluated.max_new_tokens, ": expected 1 or more"));
  }
  auto files = options.list("data");
  if (!files.empty()) (void)data::JsonlFiles(files);  // refused before a model is loaded
  base::Logger log(true, options.verbose());
  const auto device = ops::choose_device(options.text("device"), 0, "--device");
  const auto opened = train::open_model(options.text("MODEL"), options.text("base"), log, device);
  if (files.empty()) files = opened.config.data.eval;
  if (files.empty()) throw base::UsageError("eval: --data FILE is missing");
  const auto evaluation =
      train::evaluate(*opened.model, *opened.tokenizer, *opened.reader, files, evaluated);
  if (evaluation.skipped > 0) {
    log.warn(
        base::text(evaluation.skipped, " broken lines were passed over (data.skip_bad_lines)"));
  }
  if (options.has("output")) {
    const auto results = train::to_lm_eval_json(evaluation, options.text("MODEL"));
    base::replace_file(options.text("output"), results.dump(2) + "\n");
  }
  if (options.has("json")) {
    std::cout << train::to_json(evaluation, options.text("MODEL")).dump() << "\n";
  } else {
    print_table(evaluation);
  }
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
