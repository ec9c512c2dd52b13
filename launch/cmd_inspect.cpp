#include <algorithm>
#include <array>
#include <functional>
#include <iostream>

#include "distributed/comm/ring_report.h"
#include "launch/commands.h"
#include "launch/inspect.h"
#include "src/base/error.h"
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
  options.add()("ranks", "the three rank figures of every expert, and the parameters' hash")(
      "gates", "load, dead experts, entropy and entropy weight of every router")(
      "verify", "every checkpoint of a run, not only the newest; exit code 3 if one is damaged")(
      "diff", po::value<std::string>(), "another checkpoint or run: what differs between the two")(
      "collectives", "what every process of a run did last, and which one went another way")(
      "base", po::value<std::string>(), "base model folder, where it has moved")("json",
                                                                                 "print JSON");
}

/// Only a checkpoint has them.
void refuse_for_models(const Options& options, const std::string& path) {
  for (const char* name : {"ranks", "gates", "diff", "collectives", "base"}) {
    if (!options.has(name)) continue;
    throw base::UsageError(base::text("inspect: --", name, " is about a checkpoint or run, ", path,
                                      " is the folder of a base model"));
  }
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
    found = inspect_checkpoint(
        path, {options.text("base"), json || options.has("ranks"), json || options.has("gates")},
        log);
  }
  if (json) {
    std::cout << found.dump() << "\n";
  } else {
    print(found);
  }
  return found.value("valid", true) ? base::ExitCode::done : base::ExitCode::content;
}

}  // namespace dfmoa::launch
