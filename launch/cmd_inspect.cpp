#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "distributed/comm/ring_report.h"
#include "launch/commands.h"
#include "src/adapters/rank_gate.h"
#include "src/base/text.h"
#include "src/train/open_model.h"
#include "src/train/rank_budget.h"
#include "src/train/state.h"

namespace dfmoa::launch {
namespace {

/// The three rank figures of every adapted linear.
nlohmann::json sites_of(const model::Transformer& model) {
  nlohmann::json sites = nlohmann::json::array();
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      const auto z_N = train::evaluation_gates(block, group);
      for (const auto& site : group.sites) {
        const auto a = block.parameters().leaf(group.name + "/A").detach();
        const auto b = block.parameters().leaf(group.name + "/" + site.site + "/b").detach();
        for (std::int64_t e = 0; e < site.experts(); ++e) {
          const auto count = site.rank_E[static_cast<std::size_t>(e)];
          const auto begin = site.begin_of(e);
          const auto z = z_N.defined() ? z_N.narrow(0, site.first + begin, count) : at::Tensor();
          const auto active = z.defined() ? (z > 0).sum().item<std::int64_t>() : count;
          const bool noisy = z.defined() && block.adapters().rank_kind == "hard_concrete";
          const double expected =
              noisy ? adapters::alive_probability(block.parameters()
                                                      .leaf(group.name + "/logit")
                                                      .detach()
                                                      .narrow(0, site.first + begin, count))
                          .sum()
                          .item<double>()
                    : static_cast<double>(active);
          sites.push_back(
              {{"name", base::text("layer/", block.layer(), "/", site.site)},
               {"expert", e},
               {"rank", count},
               {"active", active},
               {"expected", expected},
               {"spectral", adapters::spectral_rank(a.narrow(0, site.first + begin, count),
                                                    b.narrow(0, begin, count), z)}});
        }
      }
    }
  }
  return sites;
}

/// The hash that `train` tells. The entropy weights of the routers count too, and live outside of
/// the model.
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
      const gates::StatisticsLayout layout{own[r].experts};
      const auto part = std::span(statistics).subspan(at, static_cast<std::size_t>(layout.size()));
      const double units = std::max(part[static_cast<std::size_t>(layout.units())], 1.0);
      std::vector<double> load(part.begin(), part.begin() + own[r].experts);
      for (auto& share : load) share /= units;
      routers.push_back(
          {{"name", base::text("layer/", block.layer(), "/", own[r].name)},
           {"load", load},
           {"entropy", gates::load_figures(part, layout).entropy},
           {"entropy_weight", entropy[static_cast<std::size_t>(block.layer())][r].lambda()}});
      at += part.size();
    }
  }
  return routers;
}

std::string hash_of(model::Transformer& model, const checkpoints::Checkpoint& checkpoint,
                    std::vector<train::BlockEntropy>& entropy) {
  base::StateTree tree;
  train::list_model(model, entropy, /*moments=*/false, tree);
  for (const auto& [name, entry] : tree.entries()) {
    if (entry.bytes() > 0) checkpoint.read(name, entry.data);
  }
  return train::parameters_hash(model, entropy);
}

nlohmann::json describe_checkpoint(const std::filesystem::path& path, const std::string& base_path,
                                   bool ranks, base::Logger& log) {
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
                      {"valid", true}};
  if (!ranks) return json;
  auto opened = train::open_model(checkpoint.folder(), base_path, log);
  auto entropy = train::make_entropy(*opened.model);
  json["parameters_hash"] = hash_of(*opened.model, checkpoint, entropy);
  json["sites"] = sites_of(*opened.model);
  json["routers"] = routers_of(*opened.model, checkpoint, entropy);
  return json;
}

void print_tables(const nlohmann::json& json) {
  for (const auto& [key, value] : json.items()) {
    if (key != "sites" && key != "routers") std::cout << key << "  " << value << "\n";
  }
  if (!json.contains("sites")) return;
  std::printf("%-18s %6s %6s %7s %9s %9s\n", "linear", "expert", "rank", "active", "expected",
              "spectral");
  for (const auto& site : json["sites"]) {
    std::printf("%-18s %6d %6d %7d %9.2f %9.2f\n", site["name"].get<std::string>().c_str(),
                site["expert"].get<int>(), site["rank"].get<int>(), site["active"].get<int>(),
                site["expected"].get<double>(), site["spectral"].get<double>());
  }
  std::printf("\n%-18s %9s %9s  %s\n", "router", "entropy", "weight", "load of every expert");
  for (const auto& router : json["routers"]) {
    std::printf("%-18s %9.4f %9.5f ", router["name"].get<std::string>().c_str(),
                router["entropy"].get<double>(), router["entropy_weight"].get<double>());
    for (const double share : router["load"]) std::printf(" %.3f", share);
    std::printf("\n");
  }
}

/// What the processes of a run did last, also where one was killed.
void print_collectives(const std::filesystem::path& run) {
  for (const auto& sentence : comm::ring_report(comm::read_rings(run / "collectives"))) {
    std::cout << sentence << "\n";
  }
}

}  // namespace

base::ExitCode run_inspect(const Arguments& arguments) {
  namespace po = boost::program_options;
  Options options("inspect", "Verifies a checkpoint (or a run's newest) and shows what it holds.",
                  {"PATH"});
  options.add()("ranks", "rank figures of every expert, and the hash of the parameters")(
      "collectives", "what every process of a run did last, and which one went another way")(
      "base", po::value<std::string>(), "base model folder, where it has moved")("json",
                                                                                 "print JSON");
  if (!options.parse(arguments)) return base::ExitCode::done;
  if (options.has("collectives")) {
    print_collectives(options.text("PATH"));
    return base::ExitCode::done;
  }
  base::Logger log(true, options.verbose());
  const auto json = describe_checkpoint(options.text("PATH"), options.text("base"),
                                        options.has("ranks") || options.has("json"), log);
  if (options.has("json")) {
    std::cout << json.dump() << "\n";
  } else {
    print_tables(json);
  }
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
