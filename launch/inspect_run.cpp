#include <iostream>

#include "checkpoints/reader.h"
#include "checkpoints/retention.h"
#include "launch/inspect.h"
#include "src/base/error.h"

namespace dfmoa::launch {
namespace {

/// What is wrong with a checkpoint; empty where every dataset is as it was saved.
std::string damage_of(const std::filesystem::path& folder) {
  try {
    checkpoints::Checkpoint::open(folder).verify_datasets();
    return "";
  } catch (const base::Error& error) {
    return error.what();
  }
}

}  // namespace

nlohmann::json inspect_run(const std::filesystem::path& run) {
  const auto folder = run / "checkpoints";
  const auto steps = checkpoints::steps_in(folder);
  if (steps.empty()) throw base::UsageError("inspect: " + run.string() + " holds no checkpoint");
  nlohmann::json json{{"kind", "run"}, {"path", run.string()}, {"valid", true}};
  for (const auto step : steps) {
    const auto name = checkpoints::folder_name(step);
    const auto damage = damage_of(folder / name);
    json["checkpoints"].push_back({{"name", name}, {"valid", damage.empty()}});
    if (damage.empty()) continue;
    json["checkpoints"].back()["damage"] = damage;
    json["valid"] = false;
  }
  return json;
}

void print_run(const nlohmann::json& json) {
  for (const auto& checkpoint : json["checkpoints"]) {
    std::cout << checkpoint["name"].get<std::string>()
              << (checkpoint["valid"] ? "  whole"
                                      : "  damaged: " + checkpoint["damage"].get<std::string>())
              << "\n";
  }
}

}  // namespace dfmoa::launch
