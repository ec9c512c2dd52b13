// What rank_budget.h promises about the cut of an adapter's directions.
#include "src/adapters/rank_gate.h"
#include "src/train/cut_candidate.h"
#include "src/train/rank_budget.h"

namespace dfmoa::train {
namespace {

using adapters::GroupBank;

at::Tensor row_norms(const at::Tensor& matrix) {
  return at::linalg_vector_norm(matrix, 2, at::IntArrayRef{1}).to(at::kCPU, at::kDouble);
}

/// What decides about the directions of one group, on the host.
struct GroupFigures {
  at::Tensor a_norm_N, z_N, p_N;

  GroupFigures(const model::Block& block, const GroupBank& group)
      : a_norm_N(row_norms(block.parameters().leaf(group.name + "/A"))) {
    if (!group.rank_gated) return;
    z_N = evaluation_gates(block, group).to(at::kCPU, at::kDouble);
    if (block.adapters().rank_kind != "hard_concrete") return;
    p_N = adapters::alive_probability(block.parameters().leaf(group.name + "/logit")).to(at::kCPU);
  }
};

/// Open directions of one site with a rank gate. A direction of a free gate weighs |z| |A| |B|.
void collect_site(const model::Block& block, const GroupFigures& figures,
                  const adapters::SiteBank& site, const std::string& b_name,
                  const std::function<void(const CutCandidate&)>& found) {
  const auto b_norm_N = row_norms(block.parameters().leaf(b_name));
  const bool is_free = block.adapters().rank_kind == "proximal";
  for (std::int64_t n = 0; n < site.directions(); ++n) {
    const auto row = site.first + n;
    const double z = figures.z_N.defined() ? figures.z_N[row].item<double>() : 1.0;
    if (z == 0) continue;
    const double p = figures.p_N.defined() ? figures.p_N[row].item<double>() : 1.0;
    const double norm =
        figures.a_norm_N[site.a_first + n].item<double>() * b_norm_N[n].item<double>();
    found({std::round(p * 1000) / 1000,
           is_free ? std::abs(z) * norm : norm,
           site.direction_id_N[static_cast<std::size_t>(n)],
           {}});
  }
}

KeptDirections nothing_kept(const model::Block& block) {
  KeptDirections keep;
  for (const auto& group : block.adapters().groups) keep.emplace_back(group.sites.size());
  return keep;
}

}  // namespace

CutReport cut_directions(model::Transformer& model, std::int64_t budget,
                         distributed::ExpertTransport& transport) {
  const at::NoGradGuard no_grad;
  std::vector<CutCandidate> candidates;
  std::vector<KeptDirections> keep;
  CutReport report;
  for (const auto& block : model.blocks()) {
    auto& kept = keep.emplace_back(nothing_kept(block));
    const auto& groups = block.adapters().groups;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (groups[g].sites.empty()) continue;
      const GroupFigures figures(block, groups[g]);
      for (std::size_t s = 0; s < groups[g].sites.size(); ++s) {
        const auto& site = groups[g].sites[s];
        const auto directions = block.whole().groups[g].sites[s].directions();
        if (site.rank_gate.empty()) {  // it keeps all that it has
          for (std::int64_t n = 0; n < directions; ++n) kept[g][s].push_back(n);
          continue;
        }
        report.before += directions;
        collect_site(block, figures, site, groups[g].name + "/" + site.site + "/b",
                     [&](CutCandidate candidate) {
                       candidate.place = {static_cast<std::size_t>(block.layer()), g, s};
                       candidates.push_back(candidate);
                     });
      }
    }
  }
  candidates = candidates_of_all(std::move(candidates), transport);
  keep_best(candidates, budget);
  report.after = static_cast<std::int64_t>(candidates.size());
  for (const auto& candidate : candidates) {
    const auto [layer, g, s] = candidate.place;
    const auto& ids = model.blocks()[layer].whole().groups[g].sites[s].direction_id_N;
    keep[layer][g][s].push_back(position_of(candidate.id, ids));
  }
  for (auto& block : model.blocks()) {
    if (block.whole().empty()) continue;
    auto& kept = keep[static_cast<std::size_t>(block.layer())];
    for (auto& group : kept) {
      for (auto& site : group) std::sort(site.begin(), site.end());
    }
    keep_directions(block, kept);
  }
  transport.rearrange();
  return report;
}

}  // namespace dfmoa::train
