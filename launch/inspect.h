// What `dfmoa inspect` finds out, as the JSON it prints; and the same as tables.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "src/base/log.h"

namespace dfmoa::launch {

/// The parts of a checkpoint that need its base model.
struct InspectParts {
  std::string base_path;  ///< of the base model, where it has moved; empty: as the checkpoint says
  bool ranks = false;     ///< "sites": the three rank figures of every expert
  bool gates = false;     ///< "routers": how the experts are used
};

/// A router's expert is dead where no token of the last step chose it, or where its load is below
/// this share of the even load 1 / E.
inline constexpr double kDeadShare = 0.1;

/// A base model folder: it holds config.json.
[[nodiscard]] bool is_model_folder(const std::filesystem::path& path);

/// Throws as open_checkpoint, open_model and Checkpoint::verify_datasets do.
[[nodiscard]] nlohmann::json inspect_checkpoint(const std::filesystem::path& path,
                                                const InspectParts& parts, base::Logger& log);
void print_checkpoint(const nlohmann::json& json);

/// Every checkpoint of a run folder, whole or damaged: "checkpoints" and, over all, "valid".
/// Throws UsageError where there is none.
[[nodiscard]] nlohmann::json inspect_run(const std::filesystem::path& run);
void print_run(const nlohmann::json& json);

/// Throws as load_base_model does.
[[nodiscard]] nlohmann::json inspect_model(const std::filesystem::path& path);
void print_model(const nlohmann::json& json);

/// Two checkpoints, each of them also the newest of a run. Throws UsageError for a model folder,
/// and as open_checkpoint and compare do.
[[nodiscard]] nlohmann::json inspect_difference(const std::filesystem::path& first,
                                                const std::filesystem::path& second,
                                                base::Logger& log);
void print_difference(const nlohmann::json& json, bool verbose);

/// "key  value" for everything but tables, strings without quotes; keys of objects as "key.inner".
void print_values(const nlohmann::json& json);

}  // namespace dfmoa::launch
