#include <cstdio>
#include <iostream>

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

/// Of one router's vector of statistics; before the first step nobody has used any expert.
nlohmann::json use_of(std::span<const double> statistics, const gates::StatisticsLayout& layout) {
  const double units = statistics[static_cast<std::size_t>(layout.units())];
  std::vector<double> load;
  std::vector<std::int64_t> dead;
  for (std::int64_t e = 0; e < layout.experts; ++e) {
    const auto at = static_cast<std::size_t>(e);
    load.push_back(units > 0 ? statistics[at] / units : 0.0);
    const bool chosen = statistics[static_cast<std::size_t>(layout.count() + e)] > 0;
    const bool is_dead = !chosen || load.back() * static_cast<double>(layout.experts) < kDeadShare;
    if (units > 0 && is_dead) dead.push_back(e);
  }
  const auto figures = gates::load_figures(statistics, layout);
  return {
      {"load", load}, {"dead", dead}, {"load_cv", figures.load_cv}, {"entropy", figures.entropy}};
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
    for (std::size_t r = 0; r < own.size(); ++r) {
      const auto layout = own[r].layout();
      const auto size = static_cast<std::size_t>(layout.size());
      auto router = use_of(std::span(statistics).subspan(at, size), layout);
      router["name"] = base::text("layer/", block.layer(), "/", own[r].name);
      router["entropy_weight"] = entropy[static_cast<std::size_t>(block.layer())][r].lambda();
      routers.push_back(std::move(router));
      at += size;
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
  return train::parameters_hash(model, entropy);
}

void print_ranks(const nlohmann::json& sites) {
  std::printf("\n%-18s %6s %6s %7s %9s %9s\n", "linear", "expert", "rank", "active", "expected",
              "spectral");
  for (const auto& site : sites) {
    std::printf("%-18s %6d %6d %7d %9.2f %9.2f\n", site["name"].get<std::string>().c_str(),
                site["expert"].get<int>(), site["rank"].get<int>(), site["active"].get<int>(),
                site["expected"].get<double>(), site["spectral"].get<double>());
  }
}

void print_gates(const nlohmann::json& routers) {
  std::printf("\n%-18s %9s %9s %7s %-8s %s\n", "router", "entropy", "weight", "load_cv", "dead",
              "load of every expert");
  for (const auto& router : routers) {
    std::vector<std::string> dead;
    for (const auto& expert : router["dead"]) dead.push_back(expert.dump());
    std::printf("%-18s %9.4f %9.5f %7.3f %-8s", router["name"].get<std::string>().c_str(),
                router["entropy"].get<double>(), router["entropy_weight"].get<double>(),
                router["load_cv"].get<double>(),
                dead.empty() ? "none" : base::join(dead, ",").c_str());
    for (const double share : router["load"]) std::printf(" %.3f", share);
    std::printf("\n");
  }
  std::printf("dead: no token of the last step chose the expert, or its load is below %g / E\n",
              kDeadShare);
}

}  // namespace

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
  if (!parts.ranks && !parts.gates) return json;
  auto opened = train::open_model(checkpoint.folder(), parts.base_path, log);
  auto entropy = train::make_entropy(*opened.model);
  json["parameters_hash"] = hash_of(*opened.model, checkpoint, entropy);
  if (parts.ranks) json["sites"] = sites_of(*opened.model);
  if (parts.gates) json["routers"] = routers_of(*opened.model, checkpoint, entropy);
  return json;
}

void print_checkpoint(const nlohmann::json& json) {
  print_values(json);
  std::cout.flush();  // the tables go through stdio
  if (json.contains("sites")) print_ranks(json["sites"]);
  if (json.contains("routers")) print_gates(json["routers"]);
}

}  // namespace dfmoa::launch
