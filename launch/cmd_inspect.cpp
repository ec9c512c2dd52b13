#include <algorithm>
#include <array>
#include <functional>
#include <iostream>

#include "distributed/comm/ring_report.h"
#include "launch/commands.h"
#include "launch/html_page.h"
#include "launch/inspect.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::launch {
namespace {

/// What the processes of a run did last, also where one was killed.
void print_collectives(const std::filesystem::path& run) {
  for (const auto& sentence : comm::ring_report(comm::read_rings(run / "collectives"))) {
    std::cout << sentence << "\n";
  }
}

void list_inspect_options(Options& options) {
  namespace po = boost::program_options;
  options.add()(
      "ranks",
      "the three rank figures of every expert and linear, the open dimensions of attention "
      "heads, and the parameters' hash")(
      "gates", "of every router of experts or heads: load, dead ones, entropy and entropy weight")(
      "data", po::value<std::vector<std::string>>()->composing(),
      "JSONL file, repeatable: the use of experts and heads on it, by task")(
      "tokens", po::value<std::string>(),
      "a file of text, or of samples (.jsonl): every token with its gates, the mean over routers")(
      "router", po::value<std::vector<std::string>>()->composing(),
      "with --tokens: LAYER/NAME of a router instead of the mean, repeatable")(
      "html", po::value<std::string>(),
      "write all of this, and a run's ranks and losses over time, as one page to this file")(
      "verify", "every checkpoint of a run, not only the newest; exit code 3 if one is damaged")(
      "diff", po::value<std::string>(), "another checkpoint or run: what differs between the two")(
      "collectives", "what every process of a run did last, and which one went another way")(
      "base", po::value<std::string>(), "base model folder, where it has moved")("json",
                                                                                 "print JSON");
}

/// Only a checkpoint has them.
void refuse_for_models(const Options& options, const std::string& path) {
  for (const char* name :
       {"ranks", "gates", "data", "tokens", "router", "html", "diff", "collectives", "base"}) {
    if (!options.has(name)) continue;
    throw base::UsageError(base::text("inspect: --", name, " is about a checkpoint or run, ", path,
                                      " is the folder of a base model"));
  }
}

/// Options that would have no effect beside each other.
void refuse_combinations(const Options& options) {
  if (options.has("router") && !options.has("tokens")) {
    throw base::UsageError("inspect: --router needs --tokens FILE");
  }
  for (const char* other : {"verify", "diff", "collectives"}) {
    for (const char* name : {"data", "tokens", "html"}) {
      if (!options.has(other) || !options.has(name)) continue;
      throw base::UsageError(base::text("inspect: --", name, " is about one checkpoint, --", other,
                                        " is not: expected one of them"));
    }
  }
}

/// What a checkpoint, or the newest of a run, holds; with --html also the page about it.
nlohmann::json look_into(const std::string& path, const Options& options, base::Logger& log) {
  const bool all = options.has("json") || options.has("html");
  auto found = inspect_checkpoint(
      path,
      {options.text("base"), all || options.has("ranks"), all || options.has("gates"),
       options.list("data"), options.text("tokens"), options.list("router")},
      log);
  if (!options.has("html")) return found;
  base::replace_file(options.text("html"), html_page(page_data(path, found)));
  log.info("wrote " + options.text("html"));
  if (options.has("json")) return found;
  // The page shows the tables that nobody asked for here.
  for (const char* name : {"use", "tokens"}) found.erase(name);
  for (const char* name : {"sites", "dimensions"}) {
    if (!options.has("ranks")) found.erase(name);
  }
  if (!options.has("gates")) found.erase("routers");
  return found;
}

/// A folder, but none of ours: a damaged checkpoint still holds one of its files.
bool holds_nothing_known(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return false;  // whoever opens it says so
  const std::array names{"manifest.json", "checkpoint.h5", "checkpoints", "collectives"};
  return std::none_of(names.begin(), names.end(),
                      [&](const char* name) { return std::filesystem::exists(path / name); });
}

}  // namespace

bool is_model_folder(const std::filesystem::path& path) {
  return std::filesystem::exists(path / "config.json");
}

void print_values(const nlohmann::json& json) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_object()) {
      for (const auto& [inner, held] : value.items()) print_values({{key + "." + inner, held}});
    } else if (!value.is_array()) {
      std::cout << key << "  " << (value.is_string() ? value.get<std::string>() : value.dump())
                << "\n";
    }
  }
}

base::ExitCode run_inspect(const Arguments& arguments) {
  Options options("inspect",
                  "Verifies a checkpoint (or a run's newest) or a base model and shows what it "
                  "holds.",
                  {"PATH"});
  list_inspect_options(options);
  if (!options.parse(arguments)) return base::ExitCode::done;
  refuse_combinations(options);
  const auto path = options.text("PATH");
  base::Logger log(true, options.verbose());
  const bool json = options.has("json");
  nlohmann::json found;
  std::function<void(const nlohmann::json&)> print = print_checkpoint;
  if (is_model_folder(path)) {
    refuse_for_models(options, path);
    found = inspect_model(path);
    print = print_model;
  } else if (holds_nothing_known(path)) {
    throw base::UsageError(base::text("inspect: ", path,
                                      " is neither a checkpoint (it would hold manifest.json), a "
                                      "run (checkpoints/) nor a base model (config.json)"));
  } else if (options.has("collectives")) {
    print_collectives(path);
    return base::ExitCode::done;
  } else if (options.has("verify") &&
             std::filesystem::exists(std::filesystem::path(path) / "checkpoints")) {
    found = inspect_run(path);
    print = print_run;
  } else if (options.has("diff")) {
    found = inspect_difference(path, options.text("diff"), log);
    print = [&](const auto& two) { print_difference(two, options.verbose()); };
  } else {
    found = look_into(path, options, log);
  }
  if (json) {
    std::cout << found.dump() << "\n";
  } else {
    print(found);
  }
  return found.value("valid", true) ? base::ExitCode::done : base::ExitCode::content;
}

}  // namespace dfmoa::launch
