// What `dfmoa inspect` finds out, as the JSON it prints; and the same as tables.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/base/log.h"

namespace dfmoa::distributed {
struct ParallelConfig;
}
namespace dfmoa::model {
class Transformer;
}
namespace dfmoa::train {
struct OpenedModel;
}

namespace dfmoa::launch {

/// The parts of a checkpoint that need its base model.
struct InspectParts {
  std::string base_path;  ///< of the base model, where it has moved; empty: as the checkpoint says
  bool ranks = false;     ///< "sites": the three rank figures of every expert; "dimensions";
                          ///< "owners" of a sharded run
  bool gates = false;     ///< "routers": how the experts and heads were used in the last step
  std::vector<std::string> data;     ///< held-out files; some: "use", the same on these
  std::string tokens;                ///< a file; not empty: "tokens", the gates of its text
  std::vector<std::string> routers;  ///< whose gates "tokens" tells, "LAYER/NAME"; none: the mean
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

/// Experts, or heads, that are dead: `is_chosen` may be empty (all are).
[[nodiscard]] std::vector<std::int64_t> dead_among(const std::vector<double>& load,
                                                   const std::vector<bool>& is_chosen);
/// "0,3", or "none".
[[nodiscard]] std::string numbers_text(const nlohmann::json& numbers);

/// Who owns what when the configured processes share the experts, as a resume deals them out.
[[nodiscard]] nlohmann::json owners_of(const model::Transformer& model,
                                       const distributed::ParallelConfig& config);
void print_owners(const nlohmann::json& owners);

/// The use of experts and heads on held-out files, by task, with a progress line.
/// Throws as train::evaluate does.
[[nodiscard]] nlohmann::json inspect_use(const train::OpenedModel& opened,
                                         const std::vector<std::string>& files, base::Logger& log);
void print_use(const nlohmann::json& use);

/// Every token of a plain text, or of samples (.jsonl, .jsonl.zst), with its gates.
/// Throws UsageError for a router that is not there, ContentError for a text that is empty or
/// longer than the model's positions, and as for_each_row does.
[[nodiscard]] nlohmann::json inspect_tokens(const train::OpenedModel& opened,
                                            const std::string& file,
                                            const std::vector<std::string>& routers);
void print_tokens(const nlohmann::json& tokens);

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
