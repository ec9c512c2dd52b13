#include "src/adapters/expert_bank.h"

#include <cmath>
#include <numeric>

#include "src/base/random.h"

namespace dfmoa::adapters {

std::int64_t SiteBank::begin_of(std::int64_t expert) const {
  return std::accumulate(rank_E.begin(), rank_E.begin() + expert, std::int64_t{0});
}

void SiteBank::keep_experts(const std::function<bool(std::int64_t expert)>& is_kept) {
  std::vector<std::int64_t> kept;
  auto from = direction_id_N.begin();
  for (std::int64_t expert = 0; expert < experts(); ++expert) {
    auto& rank = rank_E[static_cast<std::size_t>(expert)];
    const auto to = from + static_cast<std::ptrdiff_t>(rank);
    if (is_kept(expert)) {
      kept.insert(kept.end(), from, to);
    } else {
      rank = 0;
    }
    from = to;
  }
  direction_id_N = std::move(kept);
}

std::int64_t GroupBank::directions() const {
  std::int64_t total = 0;
  for (const auto& site : sites) total += site.directions();
  return total;
}

std::int64_t GroupBank::a_rows() const {
  std::int64_t total = 0;
  for (const auto& site : sites) total += site.a_rows();
  return total;
}

void GroupBank::index() {
  std::vector<std::int32_t> column;
  std::int64_t a_rows = 0;
  for (auto& site : sites) {
    site.first = static_cast<std::int64_t>(column.size());
    site.a_first = a_rows;
    a_rows += site.a_rows();
    for (std::int64_t expert = 0; expert < site.experts(); ++expert) {
      const auto directions =
          static_cast<std::size_t>(site.rank_E[static_cast<std::size_t>(expert)]);
      column.insert(column.end(), directions, static_cast<std::int32_t>(site.column + expert));
    }
  }
  column_N = torch::tensor(column, torch::kInt);
}

std::vector<ParameterSpec> adapter_specs(const std::vector<GroupBank>& groups) {
  std::vector<ParameterSpec> specs;
  for (const auto& group : groups) {
    if (group.sites.empty()) continue;
    specs.push_back({group.name + "/A", {group.a_rows(), group.in_features}});
    for (const auto& site : group.sites) {
      specs.push_back(
          {group.name + "/" + site.site + "/b", {site.directions(), site.out_features}});
    }
  }
  return specs;
}

std::vector<ParameterSpec> rank_gate_specs(const std::vector<GroupBank>& groups) {
  std::vector<ParameterSpec> specs;
  for (const auto& group : groups) {
    if (!group.rank_gated) continue;
    specs.push_back({group.name + "/logit", {group.directions()}, ParameterGroup::rank_gate});
  }
  return specs;
}

void initialise(const std::vector<GroupBank>& groups, ParameterSet& parameters, std::uint64_t seed,
                std::int64_t layer, double logit_start) {
  const at::NoGradGuard no_grad;
  for (const auto& group : groups) {
    if (group.sites.empty()) continue;
    // kaiming_uniform with a = sqrt(5): bound sqrt(6 / ((1 + 5) D)) = 1 / sqrt(D)
    const double bound = 1.0 / std::sqrt(static_cast<double>(group.in_features));
    auto a_ND = at::empty({group.a_rows(), group.in_features}, at::kDouble);
    auto* out = a_ND.data_ptr<double>();
    for (const auto& site : group.sites) {
      for (std::int64_t row = 0; row < site.a_rows(); ++row) {
        const auto id = site.shared_a ? row : site.direction_id_N[static_cast<std::size_t>(row)];
        const base::KeyedRandom random(
            seed, {base::key_word("expert_a"), static_cast<std::uint64_t>(layer),
                   base::key_word(site.site), static_cast<std::uint64_t>(id)});
        for (std::int64_t d = 0; d < group.in_features; ++d) {
          *out++ = bound * (2.0 * random.uniform(static_cast<std::uint64_t>(d)) - 1.0);
        }
      }
    }
    parameters.leaf(group.name + "/A").copy_(a_ND);
    if (group.rank_gated) parameters.leaf(group.name + "/logit").fill_(logit_start);
  }
}

}  // namespace dfmoa::adapters
