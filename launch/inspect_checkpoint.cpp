#include "checkpoints/stream.h"
#include "distributed/comm/local.h"
#include "launch/inspect.h"
#include "src/base/text.h"
#include "src/train/expert_ranks.h"
#include "src/train/open_model.h"
#include "src/train/state.h"

namespace dfmoa::launch {
namespace {

nlohmann::json sites_of(const model::Transformer& model) {
  nlohmann::json sites = nlohmann::json::array();
  for (const auto& expert : train::expert_ranks(model)) {
    sites.push_back({{"name", expert.site},
                     {"expert", expert.expert},
                     {"rank", expert.rank},
                     {"active", expert.active},
                     {"expected", expert.expected},
                     {"spectral", expert.spectral}});
  }
  return sites;
}

nlohmann::json dimensions_of(const model::Transformer& model) {
  nlohmann::json dimensions = nlohmann::json::array();
  for (const auto& mask : train::dimension_ranks(model)) {
    dimensions.push_back({{"name", mask.name},
                          {"total", mask.total},
                          {"active", mask.active},
                          {"expected", mask.expected}});
  }
  return dimensions;
}

/// What multiplies each head on average, from the mean of its router's probabilities: gates on
/// pretrained heads are 1 where the router is undecided.
std::vector<double> head_gates(const std::string& kind, std::vector<double> load) {
  const double undecided = kind == "head_softmax"   ? static_cast<double>(load.size())
                           : kind == "head_sigmoid" ? 2.0
                                                    : 1.0;
  for (auto& gate : load) gate *= undecided;
  return load;
}

/// Of one router's vector of statistics; before the first step nobody has used any expert.
nlohmann::json use_of(std::span<const double> statistics, const gates::StatisticsLayout& layout) {
  const double units = statistics[static_cast<std::size_t>(layout.units())];
  std::vector<double> load;
  std::vector<bool> is_chosen;
  for (std::int64_t e = 0; e < layout.experts; ++e) {
    const auto at = static_cast<std::size_t>(e);
    load.push_back(units > 0 ? statistics[at] / units : 0.0);
    is_chosen.push_back(statistics[static_cast<std::size_t>(layout.count() + e)] > 0);
  }
  const auto figures = gates::load_figures(statistics, layout);
  return {{"load", load},
          {"dead", units > 0 ? dead_among(load, is_chosen) : std::vector<std::int64_t>{}},
          {"load_cv", figures.load_cv},
          {"entropy", figures.entropy}};
}

/// Load of the last step and entropy weight of every router.
nlohmann::json routers_of(const model::Transformer& model,
                          const checkpoints::Checkpoint& checkpoint,
                          const std::vector<train::BlockEntropy>& entropy) {
  const auto count = base::count_of(checkpoint.datasets().at("statistics/last").shape);
  std::vector<double> statistics(static_cast<std::size_t>(count));
  if (count > 0) checkpoint.read("statistics/last", statistics.data());
  nlohmann::json routers = nlohmann::json::array();
  std::size_t at = 0;
  for (const auto& block : model.blocks()) {
    const auto& own = block.adapters().routers;
    const auto size = static_cast<std::size_t>(block.statistics_size());
    const auto vectors = model::statistics_by_router(own, std::span(statistics).subspan(at, size));
    at += size;
    for (std::size_t r = 0; r < own.size(); ++r) {
      auto router = use_of(vectors[r], own[r].layout());
      router["name"] = base::text("layer/", block.layer(), "/", own[r].name);
      router["entropy_weight"] = entropy[static_cast<std::size_t>(block.layer())][r].lambda();
      if (own[r].of_heads) {
        router["of_heads"] = true;
        router["mean_gate"] = head_gates(own[r].config.kind, router["load"]);
      }
      if (!own[r].labels.empty()) router["labels"] = own[r].labels;
      routers.push_back(std::move(router));
    }
  }
  return routers;
}

/// The hash that `train` tells. The entropy weights of the routers count too, and live outside of
/// the model: they are read into `entropy`.
std::string hash_of(model::Transformer& model, const checkpoints::Checkpoint& checkpoint,
                    std::vector<train::BlockEntropy>& entropy) {
  base::StateTree tree;
  train::list_model(model, entropy, /*moments=*/false, tree);
  for (const auto& [name, entry] : tree.entries()) {
    if (entry.bytes() > 0) checkpoint.read(name, entry.data);
  }
  return checkpoints::hash_of(tree, *comm::make_single());
}

}  // namespace

std::vector<std::int64_t> dead_among(const std::vector<double>& load,
                                     const std::vector<bool>& is_chosen) {
  std::vector<std::int64_t> dead;
  for (std::size_t e = 0; e < load.size(); ++e) {
    const bool chosen = is_chosen.empty() || is_chosen[e];
    if (!chosen || load[e] * static_cast<double>(load.size()) < kDeadShare) {
      dead.push_back(static_cast<std::int64_t>(e));
    }
  }
  return dead;
}

nlohmann::json inspect_checkpoint(const std::filesystem::path& path, const InspectParts& parts,
                                  base::Logger& log) {
  const auto checkpoint = train::open_checkpoint(path, log);
  checkpoint.verify_datasets();
  base::StateTree saved;
  for (const auto& [name, value] : checkpoint.values()) saved.set(name, value);
  nlohmann::json json{{"kind", "checkpoint"},
                      {"path", checkpoint.folder().string()},
                      {"format", checkpoint.format()},
                      {"step", checkpoint.step()},
                      {"tokens_seen", saved.integer("train/tokens_seen")},
                      {"base_hash", saved.text("base/hash")},
                      {"datasets", checkpoint.datasets().size()},
                      {"bytes", std::filesystem::file_size(checkpoint.folder() / "checkpoint.h5")},
                      {"valid", true}};
  const bool needs_data = !parts.data.empty() || !parts.tokens.empty();
  if (!parts.ranks && !parts.gates && !needs_data) return json;
  auto opened = train::open_model(checkpoint.folder(), parts.base_path, log);
  auto entropy = train::make_entropy(*opened.model);
  json["parameters_hash"] = hash_of(*opened.model, checkpoint, entropy);
  if (parts.ranks) {
    json["sites"] = sites_of(*opened.model);
    json["dimensions"] = dimensions_of(*opened.model);
    const auto& parallel = opened.config.parallel;
    const bool is_sharded =
        parallel.chosen() != distributed::Transport::replicate || parallel.heads == "shard";
    if (is_sharded && parallel.expert > 1) json["owners"] = owners_of(*opened.model, parallel);
  }
  if (parts.gates) json["routers"] = routers_of(*opened.model, checkpoint, entropy);
  if (!parts.data.empty()) json["use"] = inspect_use(opened, parts.data, log);
  if (!parts.tokens.empty()) json["tokens"] = inspect_tokens(opened, parts.tokens, parts.routers);
  return json;
}

}  // namespace dfmoa::launch
