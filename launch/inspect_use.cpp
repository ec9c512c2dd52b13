#include <cstdio>

#include "launch/inspect.h"
#include "src/base/text.h"
#include "src/data/jsonl.h"
#include "src/train/evaluate.h"
#include "src/train/open_model.h"

namespace dfmoa::launch {
namespace {

nlohmann::json router_json(const train::RouterUse& use) {
  nlohmann::json json{{"name", base::text("layer/", use.layer, "/", use.router)},
                      {"load", use.load},
                      {"load_of_task", use.load_of_task},
                      {"load_cv", use.load_cv},
                      {"dead", dead_among(use.load, {})},
                      {"entropy", use.entropy},
                      {"mutual_information", use.mutual_information}};
  if (use.of_heads) json["of_heads"] = true;
  if (!use.labels.empty()) json["labels"] = use.labels;
  return json;
}

void print_load(const std::string& task, const nlohmann::json& load) {
  std::printf(" %-14s", task.c_str());
  for (const double gate : load) std::printf(" %.3f", gate);
  std::printf("\n");
}

}  // namespace

nlohmann::json inspect_use(const train::OpenedModel& opened, const std::vector<std::string>& files,
                           base::Logger& log) {
  const auto samples = data::JsonlFiles(files).count();
  train::EvaluateOptions options;
  options.on_row = [&](std::int64_t read) {
    log.progress(base::text("gates of held-out samples: ", read, " of ", samples));
  };
  const auto evaluation =
      train::evaluate(*opened.model, *opened.tokenizer, *opened.reader, files, options);
  if (evaluation.skipped > 0) {
    log.warn(
        base::text(evaluation.skipped, " broken lines were passed over (data.skip_bad_lines)"));
  }
  nlohmann::json json{{"files", files},
                      {"tasks", nlohmann::json::object()},
                      {"routers", nlohmann::json::array()},
                      {"load_of_task", evaluation.load_of_task},
                      {"mutual_information", evaluation.mutual_information}};
  for (const auto& [task, figures] : evaluation.tasks) {
    json["tasks"][task] = {
        {"ce", figures.ce}, {"tokens", figures.tokens}, {"items", figures.items}};
  }
  for (const auto& use : evaluation.routers) json["routers"].push_back(router_json(use));
  return json;
}

void print_use(const nlohmann::json& use) {
  std::printf("\n%-18s %9s %7s %-8s %9s %-14s %s\n", "router on the data", "entropy", "load_cv",
              "dead", "mutual", "task", "mean gate of every expert or head");
  for (const auto& router : use["routers"]) {
    std::printf("%-18s %9.4f %7.3f %-8s %9.5f", router["name"].get<std::string>().c_str(),
                router["entropy"].get<double>(), router["load_cv"].get<double>(),
                numbers_text(router["dead"]).c_str(), router["mutual_information"].get<double>());
    print_load("all", router["load"]);
    for (const auto& [task, load] : router["load_of_task"].items()) {
      std::printf("%55s", "");
      print_load(task, load);
    }
  }
  if (!use["load_of_task"].empty()) {
    std::printf("\nmean over the routers of experts\n");
    for (const auto& [task, load] : use["load_of_task"].items()) print_load(task, load);
  }
  std::printf("mutual: information of expert and task, nats; its mean %.5f\n",
              use["mutual_information"].get<double>());
}

}  // namespace dfmoa::launch
