#include "src/model/adapt.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/model/families.h"

namespace dfmoa::model {
namespace {

using adapters::AdapterConfig;
using adapters::SiteBank;

constexpr std::array<std::size_t, 7> kGroupOfSite{0, 0, 0, 1, 2, 2, 3};

std::size_t site_position(std::string_view site) {
  return static_cast<std::size_t>(std::find(kSites.begin(), kSites.end(), site) - kSites.begin());
}

/// The sites that an adapter names, all of which the model has.
std::vector<std::string> sites_of(const std::string& adapter, const AdapterConfig& config,
                                  const LayerWeights& weights) {
  std::vector<std::string> known;
  for (std::size_t position = 0; position < kSites.size(); ++position) {
    if (weights.linears[position] != nullptr) known.emplace_back(kSites[position]);
  }
  if (config.sites == std::vector<std::string>{"all"}) return known;
  for (const auto& site : config.sites) {
    if (std::find(known.begin(), known.end(), site) != known.end()) continue;
    throw base::UsageError(base::text("configuration adapter.", adapter, ".sites: '", site,
                                      "' matches no linear, expected all, or some of ",
                                      base::join(known, ", ")));
  }
  return config.sites;
}

template <class Config>
const Config& named(const std::map<std::string, Config>& sections, const std::string& kind,
                    const std::string& name, const std::string& adapter) {
  const auto found = sections.find(name);
  if (found != sections.end()) return found->second;
  throw base::UsageError(base::text("configuration adapter.", adapter, ".", kind, " = ", name,
                                    ": there is no section [", kind == "router" ? "router" : "rank",
                                    ".", name, "]"));
}

SiteBank bank_of(const std::string& name, const AdapterConfig& config, std::string_view site,
                 double mean_gate) {
  SiteBank bank;
  bank.site = site;
  bank.adapter = name;
  bank.rank_gate = config.rank_gate;
  bank.rank_E.assign(static_cast<std::size_t>(config.experts), config.rank);
  bank.direction_id_N.resize(static_cast<std::size_t>(config.experts * config.rank));
  std::iota(bank.direction_id_N.begin(), bank.direction_id_N.end(), std::int64_t{0});
  bank.initial_rank = config.rank;
  bank.scale = config.scale_factor(mean_gate);
  return bank;
}

/// Fills one block with one adapter.
class BlockPlanner {
 public:
  BlockPlanner(const AdapterPlan& plan, const LayerWeights& weights, std::int64_t layer)
      : plan_(plan), weights_(weights), layer_(layer) {
    for (std::size_t g = 0; g < kGroups.size(); ++g) block_.groups[g].name = kGroups[g];
  }

  void add(const std::string& name, const AdapterConfig& config) {
    const bool routed = !config.router.empty() && config.experts > 1;
    double mean_gate = 1.0;
    if (!config.router.empty()) {
      const auto& router = named(plan_.routers, "router", config.router, name);
      router.validate(config.router, config.experts);
      mean_gate = router.mean_gate(config.experts);
    }
    if (!config.rank_gate.empty()) set_rank_gate(name, config);
    for (const auto& site : sites_of(name, config, weights_)) {
      const auto position = site_position(site);
      const auto [taken, is_new] = taken_.try_emplace(position, name);
      if (!is_new) {
        throw base::UsageError(base::text("configuration: [adapter.", taken->second,
                                          "] and [adapter.", name, "] both name site ", site,
                                          " of layer ", layer_, ", expected one adapter a site"));
      }
      auto bank = bank_of(name, config, site, mean_gate);
      bank.out_features = weights_.linears[position]->out_features();
      const auto group = kGroupOfSite[position];
      if (routed) routers_of_site_[{group, site}] = router_for(config, site, group);
      block_.has_ungated = block_.has_ungated || !routed;
      block_.groups[group].in_features = weights_.linears[position]->in_features();
      set_gated(name, site, block_.groups[group],
                !config.rank_gate.empty() && block_.rank_kind != "norm");
      block_.groups[group].sites.push_back(std::move(bank));
    }
  }

  BlockAdapters finish() {
    for (std::size_t g = 0; g < kGroups.size(); ++g) {
      auto& group = block_.groups[g];
      std::sort(group.sites.begin(), group.sites.end(), [](const auto& a, const auto& b) {
        return site_position(a.site) < site_position(b.site);
      });
      for (auto& site : group.sites) site.column = column_of(g, site.site);
      group.index();
    }
    return std::move(block_);
  }

 private:
  /// Linears that read one input share one A, and with it whether its directions are gated.
  void set_gated(const std::string& name, const std::string& site, adapters::GroupBank& group,
                 bool is_gated) const {
    if (!group.sites.empty() && group.rank_gated != is_gated) {
      throw base::UsageError(base::text(
          "configuration adapter.", name, ": site ", site, " of layer ", layer_,
          is_gated ? " has rank gates, but " : " has no rank gates, but ", group.sites[0].site,
          " of adapter.", group.sites[0].adapter, is_gated ? " has none" : " has",
          ": they read the same input, expected rank_gate for "
          "both or for neither"));
    }
    group.rank_gated = is_gated;
  }

  void set_rank_gate(const std::string& name, const AdapterConfig& config) {
    const auto& kind = named(plan_.rank_gates, "rank_gate", config.rank_gate, name).kind;
    if (!block_.rank_kind.empty() && block_.rank_kind != kind) {
      throw base::UsageError(base::text("configuration adapter.", name, ": layer ", layer_,
                                        " has rank gates of kind ", block_.rank_kind, " and ", kind,
                                        ", expected one kind per layer"));
    }
    block_.rank_kind = kind;
  }

  std::size_t router_for(const AdapterConfig& config, const std::string& site, std::size_t group) {
    const auto& router = plan_.routers.at(config.router);
    const bool per_site = router.input == "per_site";
    const auto name = per_site ? config.router + "/" + site : config.router;
    for (std::size_t r = 0; r < block_.routers.size(); ++r) {
      if (block_.routers[r].name != name) continue;
      if (block_.routers[r].experts == config.experts) return r;
      throw base::UsageError(base::text("router ", name, " of layer ", layer_, " serves ",
                                        block_.routers[r].experts, " and ", config.experts,
                                        " experts, expected one number"));
    }
    block_.routers.push_back(
        {name, router, config.experts, per_site ? static_cast<int>(group) : -1});
    return block_.routers.size() - 1;
  }

  /// The same order in which Block lays the gates side by side.
  std::int64_t column_of(std::size_t group, const std::string& site) const {
    const auto found = routers_of_site_.find({group, site});
    std::int64_t column = 0;
    for (std::size_t r = 0; r < block_.routers.size(); ++r) {
      if (found != routers_of_site_.end() && found->second == r) return column;
      const auto reads = block_.routers[r].group;
      if (reads < 0 || reads == static_cast<int>(group)) column += block_.routers[r].experts;
    }
    return column;  // no router: the column of ones
  }

  const AdapterPlan& plan_;
  const LayerWeights& weights_;
  std::int64_t layer_;
  BlockAdapters block_;
  std::map<std::size_t, std::string> taken_;  ///< position of a site -> its adapter
  std::map<std::pair<std::size_t, std::string>, std::size_t> routers_of_site_;
};

}  // namespace

std::vector<BlockAdapters> plan_blocks(const AdapterPlan& plan, const BaseModel& base) {
  std::vector<BlockPlanner> planners;
  for (std::size_t layer = 0; layer < base.layers.size(); ++layer) {
    planners.emplace_back(plan, base.layers[layer], static_cast<std::int64_t>(layer));
  }
  for (const auto& [name, config] : plan.adapters) {
    const auto num_layers = static_cast<std::int64_t>(base.layers.size());
    for (const auto layer : adapters::layers_of(name, config.layers, num_layers)) {
      planners[static_cast<std::size_t>(layer)].add(name, config);
    }
  }
  std::vector<BlockAdapters> blocks;
  for (auto& planner : planners) blocks.push_back(planner.finish());
  return blocks;
}

}  // namespace dfmoa::model
