#include "src/model/adapt.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/model/families.h"
#include "src/model/logit_mixture.h"

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

/// What `section`.`key` = `name` refers to.
template <class Config>
const Config& named(const std::map<std::string, Config>& sections, const std::string& section,
                    const std::string& key, const std::string& name) {
  const auto found = sections.find(name);
  if (found != sections.end()) return found->second;
  throw base::UsageError(base::text("configuration ", section, ".", key, " = ", name,
                                    ": there is no section [", key == "router" ? "router" : "rank",
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
  bank.shared_a = config.shared_a;
  bank.scale = config.scale_factor(mean_gate);
  return bank;
}

/// The dimensions that a [dfa] section gates. Where positions rotate pairs of channels, the queries
/// of a group and both channels of a pair share one gate: it is the product with a key that counts.
std::vector<DimensionMask> attention_masks(const DfaConfig& config,
                                           const Architecture& architecture) {
  const auto heads = architecture.heads;
  const auto channels = architecture.head_dim;
  std::vector<DimensionMask> masks;
  const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t columns) {
    DimensionMask mask{name, rows, columns, {}};
    mask.dimension_id_N.resize(static_cast<std::size_t>(mask.total()));
    std::iota(mask.dimension_id_N.begin(), mask.dimension_id_N.end(), std::int64_t{0});
    masks.push_back(std::move(mask));
  };
  if (config.is_literal()) {
    for (const char* name : {"q", "k", "v"}) add(name, heads, channels);
    return masks;
  }
  const std::set<std::string> named(config.dimensions.begin(), config.dimensions.end());
  for (const auto& name : named) {
    if (name == "qk") {
      const bool in_pairs = architecture.positions == Positions::rotary;
      add(name, architecture.kv_heads, in_pairs ? channels / 2 : channels);
    } else if (name == "v") {
      add(name, heads, channels);
    } else {
      throw base::UsageError(
          base::text("configuration dfa.dimensions: '", name, "', expected some of qk, v"));
    }
  }
  return masks;
}

void check_dfa(const AdapterPlan& plan) {
  const auto& config = plan.dfa;
  if (config.is_literal() && config.rank_gate.empty()) {
    throw base::UsageError("configuration dfa.attention = literal masks q, k and v: set rank_gate");
  }
  if (!config.rank_gate.empty()) {
    const auto& kind = named(plan.rank_gates, "dfa", "rank_gate", config.rank_gate).kind;
    if (config.is_literal() != (kind == "literal")) {
      throw base::UsageError(base::text("configuration dfa.attention = ", config.attention,
                                        " with rank.", config.rank_gate, ".kind = ", kind,
                                        ": expected literal for both or for neither"));
    }
    if (kind == "svd") {
      throw base::UsageError(base::text("configuration rank.", config.rank_gate,
                                        ".kind = svd of a head's dimensions, which have no "
                                        "update of their own: expected hard_concrete, proximal or "
                                        "norm"));
    }
  }
  if (config.router.empty()) return;
  const auto& router = named(plan.routers, "dfa", "router", config.router);
  for (const auto& [name, adapter] : plan.adapters) {
    if (adapter.router != config.router) continue;
    throw base::UsageError(base::text("router ", config.router,
                                      " gates attention heads and adapter.", name,
                                      ": expected one of its own for each"));
  }
  const bool is_known = router.kind == "softmax" || router.kind == "sigmoid";
  if (is_known && router.input == "per_block" && router.over == "experts" &&
      router.mix == "linears") {
    return;
  }
  throw base::UsageError(base::text("router ", config.router, " gates attention heads: kind ",
                                    router.kind, ", input ", router.input, ", over ", router.over,
                                    ", mix ", router.mix,
                                    ", expected softmax or sigmoid, per_block, experts and "
                                    "linears"));
}

/// Fills one block with its adapters.
class BlockPlanner {
 public:
  BlockPlanner(const AdapterPlan& plan, const LayerWeights& weights, std::int64_t layer)
      : plan_(plan), weights_(weights), layer_(layer) {
    for (std::size_t g = 0; g < kGroups.size(); ++g) block_.groups[g].name = kGroups[g];
  }

  /// Before any `add`: a router over adapters has as many gates as they need together.
  void count(const std::string& name, const AdapterConfig& config) {
    config.validate(name);
    if (config.router.empty()) return;
    const auto& router = named(plan_.routers, "adapter." + name, "router", config.router);
    const auto linears = static_cast<std::int64_t>(
        config.kind == "lora" ? sites_of(name, config, weights_).size() : 1);
    auto& gates = gates_of_[config.router];
    if (router.over == "adapters") {
      gates += linears * config.experts;
    } else if (config.kind == "lora") {
      gates = config.experts;
    } else {
      throw base::UsageError(base::text("configuration adapter.", name, ".router = ", config.router,
                                        ": an adapter of kind ", config.kind,
                                        " has a gate of its own, expected router.", config.router,
                                        ".over = adapters"));
    }
  }

  void add(const std::string& name, const AdapterConfig& config) {
    double mean_gate = 1.0;
    if (!config.router.empty()) {
      const auto& router = plan_.routers.at(config.router);
      router.validate(config.router, gates_of_.at(config.router));
      if (is_routed(config)) mean_gate = router.mean_gate(gates_of_.at(config.router));
    }
    if (!config.rank_gate.empty()) set_rank_gate(name, config);
    if (config.kind != "lora") return add_side(name, config);
    for (const auto& site : sites_of(name, config, weights_)) {
      add_site(name, config, site, mean_gate);
    }
  }

  void gate_attention(const DfaConfig& config, const Architecture& architecture) {
    auto& gates = block_.attention;
    gates.literal = config.is_literal();
    if (gates.literal) refuse_adapted_attention();
    if (!config.rank_gate.empty()) {
      gates.rank_gate = config.rank_gate;
      gates.kind = named(plan_.rank_gates, "dfa", "rank_gate", config.rank_gate).kind;
      gates.masks = attention_masks(config, architecture);
    }
    if (config.router.empty()) return;
    auto router = named(plan_.routers, "dfa", "router", config.router);
    gates.router = static_cast<int>(block_.routers.size());
    // The mean of pretrained heads stays 1; new ones are mixed as they were published.
    if (!gates.literal) router.kind = "head_" + router.kind;
    block_.routers.push_back(
        {config.router, router, architecture.heads, -1, /*of_heads=*/true, {}});
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
  /// One gate that is always 1 needs no router.
  bool is_routed(const AdapterConfig& config) const {
    return !config.router.empty() &&
           (gates_of_.at(config.router) > 1 || plan_.routers.at(config.router).is_independent());
  }

  void add_side(const std::string& name, const AdapterConfig& config) {
    SideAdapter side{name, config.kind, config.width_or_default(), -1, 0};
    if (is_routed(config)) {
      const auto router = router_for(config, config.kind, 0, name);
      side.router = static_cast<int>(router);
      side.column = next_gate(router, config, name);
    }
    block_.sides.push_back(std::move(side));
  }

  void add_site(const std::string& name, const AdapterConfig& config, const std::string& site,
                double mean_gate) {
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
    if (is_routed(config)) {
      const auto router = router_for(config, site, group, name);
      const bool over_adapters = plan_.routers.at(config.router).over == "adapters";
      bank.own_gates = over_adapters;
      gate_of_site_[{group, site}] = {router, over_adapters ? next_gate(router, config, site) : 0};
    } else {
      block_.has_ungated = true;
    }
    block_.groups[group].in_features = weights_.linears[position]->in_features();
    set_gated(name, site, block_.groups[group],
              !config.rank_gate.empty() && adapters::has_trained_gates(block_.rank_kind));
    block_.groups[group].sites.push_back(std::move(bank));
  }

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
    const auto& kind =
        named(plan_.rank_gates, "adapter." + name, "rank_gate", config.rank_gate).kind;
    if (!block_.rank_kind.empty() && block_.rank_kind != kind) {
      throw base::UsageError(base::text("configuration adapter.", name, ": layer ", layer_,
                                        " has rank gates of kind ", block_.rank_kind, " and ", kind,
                                        ", expected one kind per layer"));
    }
    block_.rank_kind = kind;
  }

  std::size_t router_for(const AdapterConfig& config, const std::string& site, std::size_t group,
                         const std::string& adapter) {
    auto router = plan_.routers.at(config.router);
    // Equal gates of experts that share A leave all of their b equal, for ever.
    if (config.shared_a && router.init == "auto") router.init = "normal";
    const bool per_site = router.input == "per_site";
    const auto experts = router.over == "adapters" ? gates_of_.at(config.router) : config.experts;
    const auto name = per_site ? config.router + "/" + site : config.router;
    for (std::size_t r = 0; r < block_.routers.size(); ++r) {
      if (block_.routers[r].name != name) continue;
      if (block_.routers[r].experts == experts) return r;
      throw base::UsageError(base::text("router ", name, " of layer ", layer_, " serves ",
                                        block_.routers[r].experts, " and ", experts,
                                        " experts (adapter.", adapter, "), expected one number"));
    }
    block_.routers.push_back(
        {name, router, experts, per_site ? static_cast<int>(group) : -1, false, {}});
    return block_.routers.size() - 1;
  }

  /// The next free gate of a router over adapters, with as many after it as there are experts.
  std::int64_t next_gate(std::size_t router, const AdapterConfig& config,
                         const std::string& label) {
    auto& labels = block_.routers[router].labels;
    const auto first = static_cast<std::int64_t>(labels.size());
    for (std::int64_t e = 0; e < config.experts; ++e) {
      labels.push_back(config.experts == 1 ? label : base::text(label, "/", e));
    }
    return first;
  }

  /// The same order in which Block lays the gates side by side.
  std::int64_t column_of(std::size_t group, const std::string& site) const {
    const auto found = gate_of_site_.find({group, site});
    std::int64_t column = 0;
    for (std::size_t r = 0; r < block_.routers.size(); ++r) {
      if (found != gate_of_site_.end() && found->second.first == r) {
        return column + found->second.second;
      }
      const auto& router = block_.routers[r];
      const bool serves = router.group < 0 || router.group == static_cast<int>(group);
      if (serves && !router.of_heads) column += router.experts;
    }
    return column;  // no router: the column of ones
  }

  void refuse_adapted_attention() const {
    for (const auto group : {std::size_t{0}, std::size_t{1}}) {
      for (const auto& site : block_.groups[group].sites) {
        throw base::UsageError(
            base::text("configuration dfa.attention = literal replaces the attention of layer ",
                       layer_, ", adapter.", site.adapter, " names its site ", site.site,
                       ": expected none of q, k, v, o"));
      }
    }
    for (const auto& side : block_.sides) {
      if (side.kind != "prompt") continue;
      throw base::UsageError(
          base::text("configuration dfa.attention = literal replaces the attention of layer ",
                     layer_, ", which adapter.", side.name, " of kind prompt needs"));
    }
  }

  const AdapterPlan& plan_;
  const LayerWeights& weights_;
  std::int64_t layer_;
  BlockAdapters block_;
  std::map<std::string, std::int64_t> gates_of_;  ///< gates of every router of this layer
  std::map<std::size_t, std::string> taken_;      ///< position of a site -> its adapter
  /// Router of a site and the gate of its expert 0.
  std::map<std::pair<std::size_t, std::string>, std::pair<std::size_t, std::int64_t>> gate_of_site_;
};

}  // namespace

std::vector<BlockAdapters> plan_blocks(const AdapterPlan& plan, const BaseModel& base) {
  std::vector<BlockPlanner> planners;
  const auto num_layers = static_cast<std::int64_t>(base.layers.size());
  for (std::int64_t layer = 0; layer < num_layers; ++layer) {
    planners.emplace_back(plan, base.layers[static_cast<std::size_t>(layer)], layer);
  }
  const auto in_layers = [&](const std::string& section, const std::string& text, auto&& visit) {
    for (const auto layer : adapters::layers_of(section, text, num_layers)) {
      visit(planners[static_cast<std::size_t>(layer)]);
    }
  };
  for (const auto& [name, config] : plan.adapters) {
    in_layers("adapter." + name, config.layers,
              [&](auto& planner) { planner.count(name, config); });
  }
  for (const auto& [name, config] : plan.adapters) {
    in_layers("adapter." + name, config.layers, [&](auto& planner) { planner.add(name, config); });
  }
  if (plan.dfa.is_on()) {
    check_dfa(plan);
    in_layers("dfa", plan.dfa.layers,
              [&](auto& planner) { planner.gate_attention(plan.dfa, base.architecture); });
  }
  std::vector<BlockAdapters> blocks;
  for (auto& planner : planners) blocks.push_back(planner.finish());
  plan_logit_mixture(plan, blocks);
  return blocks;
}

}  // namespace dfmoa::model
