#include "distributed/ownership.h"

#include <algorithm>
#include <numeric>

#include "src/base/dtype.h"
#include "src/base/error.h"
#include "src/base/hash.h"
#include "src/base/text.h"

namespace dfmoa::distributed {

std::string unit_name(const adapters::SiteBank& site, std::int64_t expert) {
  return site.own_gates ? base::text(site.adapter, "/", site.site, "/", expert)
                        : base::text(site.adapter, "/", expert);
}

std::string unit_name(const model::SideAdapter& side) {
  return side.kind + "/" + side.name;
}

std::vector<OwnedUnit> units_of(const model::BlockAdapters& whole, const model::BlockShape& shape) {
  std::vector<OwnedUnit> units;
  const auto add = [&](const std::string& name, std::int64_t parameters) {
    for (auto& unit : units) {
      if (unit.name != name) continue;
      unit.parameters += parameters;
      return;
    }
    units.push_back({name, parameters});
  };
  for (const auto& group : whole.groups) {
    for (const auto& site : group.sites) {
      const auto of_direction =
          site.out_features + (site.shared_a ? 0 : group.in_features) + (group.rank_gated ? 1 : 0);
      for (std::int64_t e = 0; e < site.experts(); ++e) {
        add(unit_name(site, e), site.rank_E[static_cast<std::size_t>(e)] * of_direction);
      }
    }
  }
  for (const auto& side : whole.sides) {
    for (const auto& spec : model::side_specs(side, shape)) {
      add(unit_name(side), base::count_of(spec.shape));
    }
  }
  return units;
}

int BlockOwners::of_dimension(const model::DimensionMask& mask, std::int64_t id) const {
  const auto queries = static_cast<std::int64_t>(head_H.size()) / mask.rows;
  return head_H.at(static_cast<std::size_t>(id / mask.channels * queries));
}

Ownership::Ownership(const ParallelConfig& config, int processes)
    : is_balanced_(config.owners == std::vector<std::string>{"balanced"}),
      units_(explicit_owners("owners", config.owners, {"default", "balanced"}, processes)),
      heads_(explicit_owners("head_owners", config.head_owners, {"default"}, processes)),
      load_(static_cast<std::size_t>(processes)) {}

void Ownership::clear() {
  blocks_.clear();
  std::fill(load_.begin(), load_.end(), 0);
}

std::vector<int> Ownership::owners_of(const std::vector<OwnedUnit>& units, std::int64_t layer) {
  const auto processes = static_cast<std::int64_t>(load_.size());
  const auto count = static_cast<std::int64_t>(units.size());
  if (!units_.empty() && units_.size() != units.size()) {
    throw base::UsageError(base::text("configuration parallel.owners lists ", units_.size(),
                                      " owners, expected one for each of the ", count,
                                      " experts and adapters of layer ", layer));
  }
  if (!units_.empty()) return units_;
  std::vector<int> owners;
  for (std::int64_t u = 0; u < count; ++u) {
    owners.push_back(static_cast<int>((layer * count + u) % processes));
  }
  if (!is_balanced_) return owners;
  std::vector<std::size_t> order(units.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto x, auto y) { return units[x].parameters > units[y].parameters; });
  for (const auto u : order) {
    const auto least = std::min_element(load_.begin(), load_.end());
    *least += units[u].parameters;
    owners[u] = static_cast<int>(least - load_.begin());
  }
  return owners;
}

std::vector<int> Ownership::heads_of(std::int64_t heads, std::int64_t layer) const {
  if (!heads_.empty() && static_cast<std::int64_t>(heads_.size()) != heads) {
    throw base::UsageError(base::text("configuration parallel.head_owners lists ", heads_.size(),
                                      " owners, expected one for each of the ", heads, " heads"));
  }
  if (!heads_.empty()) return heads_;
  std::vector<int> owners;
  for (std::int64_t h = 0; h < heads; ++h) {
    owners.push_back(
        static_cast<int>((layer * heads + h) % static_cast<std::int64_t>(load_.size())));
  }
  return owners;
}

const BlockOwners& Ownership::choose(const model::BlockAdapters& whole,
                                     const model::BlockShape& shape, std::int64_t layer) {
  const auto units = units_of(whole, shape);
  const auto owners = owners_of(units, layer);
  auto& block = blocks_[layer];
  block = {};
  for (std::size_t u = 0; u < units.size(); ++u) block.units[units[u].name] = owners[u];
  block.head_H = heads_of(shape.heads, layer);
  return block;
}

std::string Ownership::hash() const {
  base::Hash128 hash;
  for (const auto& [layer, block] : blocks_) {
    auto text = base::text(layer, ":");
    for (const auto& [unit, owner] : block.units) text += base::text(" ", unit, "=", owner);
    for (const auto owner : block.head_H) text += base::text(" ", owner);
    hash.add(text.data(), text.size());
  }
  return hash.hex();
}

}  // namespace dfmoa::distributed
