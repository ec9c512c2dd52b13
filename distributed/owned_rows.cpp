#include "distributed/owned_rows.h"

#include <algorithm>
#include <map>

namespace dfmoa::distributed {
namespace {

using model::BlockAdapters;

/// Runs of one parameter; neighbours of one owner become one.
class Runs {
 public:
  void add(std::int64_t count, int owner, bool of_expert) {
    if (count == 0) return;
    if (!runs_.empty() && runs_.back().owner == owner && runs_.back().of_expert == of_expert) {
      runs_.back().count += count;
    } else {
      runs_.push_back({{}, end_, count, owner, of_expert});
    }
    end_ += count;
  }
  [[nodiscard]] const std::vector<RowRun>& all() const { return runs_; }

 private:
  std::vector<RowRun> runs_;
  std::int64_t end_ = 0;
};

using RunsOfParameter = std::map<std::string, Runs>;

void add_experts(const BlockAdapters& whole, const BlockOwners& owners, RunsOfParameter& runs) {
  for (const auto& group : whole.groups) {
    for (const auto& site : group.sites) {
      auto& a = runs[group.name + "/A"];
      auto& b = runs[group.name + "/" + site.site + "/b"];
      if (site.shared_a) a.add(site.a_rows(), kHeldByAll, false);
      for (std::int64_t e = 0; e < site.experts(); ++e) {
        const auto owner = owners.units.at(unit_name(site, e));
        const auto rank = site.rank_E[static_cast<std::size_t>(e)];
        if (!site.shared_a) a.add(rank, owner, true);
        b.add(rank, owner, true);
        if (group.rank_gated) runs[group.name + "/logit"].add(rank, owner, true);
      }
    }
  }
}

}  // namespace

std::vector<RowRun> rows_by_owner(const BlockAdapters& whole, const model::BlockShape& shape,
                                  const BlockOwners& owners) {
  RunsOfParameter runs;
  add_experts(whole, owners, runs);
  for (const auto& side : whole.sides) {
    for (const auto& spec : model::side_specs(side, shape)) {
      runs[spec.name].add(spec.shape[0], owners.units.at(unit_name(side)), false);
    }
  }
  for (const auto& mask : whole.attention.masks) {
    for (const auto id : mask.dimension_id_N) {
      runs[mask.parameter()].add(1, owners.of_dimension(mask, id), false);
    }
  }
  std::vector<RowRun> all;
  for (const auto& spec : model::parameter_specs(whole, shape)) {
    const auto found = runs.find(spec.name);
    if (found == runs.end()) {
      all.push_back({spec.name, 0, spec.shape[0], kHeldByAll, false});
      continue;
    }
    for (auto run : found->second.all()) {
      run.parameter = spec.name;
      all.push_back(std::move(run));
    }
  }
  return all;
}

BlockAdapters held_banks(const BlockAdapters& whole, const BlockOwners& owners, int place) {
  auto held = whole;
  for (auto& group : held.groups) {
    for (auto& site : group.sites) {
      site.keep_experts(
          [&](std::int64_t e) { return owners.units.at(unit_name(site, e)) == place; });
    }
    group.index();
  }
  std::erase_if(held.sides,
                [&](const auto& side) { return owners.units.at(unit_name(side)) != place; });
  for (auto& mask : held.attention.masks) {
    std::erase_if(mask.dimension_id_N,
                  [&](auto id) { return owners.of_dimension(mask, id) != place; });
  }
  return held;
}

BlockAdapters with_held_experts(const BlockAdapters& whole, const BlockAdapters& held) {
  auto banks = whole;
  banks.groups = held.groups;
  return banks;
}

}  // namespace dfmoa::distributed
