// What rank_budget.h promises about the cut of dimensions of attention heads.
#include "src/adapters/rank_gate.h"
#include "src/train/cut_candidate.h"
#include "src/train/rank_budget.h"

namespace dfmoa::train {
namespace {

using model::DimensionMask;

/// Squared norms of the rows (F), or with `of_columns` the columns (D), of a frozen weight.
at::Tensor squared_norms(const adapters::BaseLinear& linear, at::TensorOptions options,
                         bool of_columns) {
  const auto bias_1F = linear.forward(at::zeros({1, linear.in_features()}, options));
  const auto weight_DF = linear.forward(at::eye(linear.in_features(), options)) - bias_1F;
  return weight_DF.square().sum(of_columns ? 1 : 0).to(at::kCPU, at::kDouble);
}

/// What every dimension of a mask connects: |W_q rows| |W_k rows|, or |W_v row| |W_o column|.
at::Tensor weights_of(const model::BaseModel& base, const model::LayerWeights& layer,
                      const DimensionMask& mask) {
  const auto& a = base.architecture;
  const auto options = base.embedding_VD.options();
  const auto norms = [&](std::size_t site, bool of_columns) {
    return squared_norms(*layer.linears[site], options, of_columns);
  };
  const auto queries = a.heads / a.kv_heads;
  if (mask.name == "v") {
    const auto v_HC = norms(2, false).view({a.kv_heads, a.head_dim}).repeat_interleave(queries, 0);
    return (v_HC * norms(3, true).view({a.heads, a.head_dim})).sqrt().view({-1});
  }
  const auto halves = a.head_dim / mask.channels;  // 2 where a rotary pair shares its gate
  const auto sum_of = [&](const at::Tensor& squared, std::int64_t heads) {
    return squared.view({mask.rows, heads / mask.rows, halves, mask.channels}).sum({1, 2});
  };
  return (sum_of(norms(0, false), a.heads) * sum_of(norms(1, false), a.kv_heads)).sqrt().view({-1});
}

void collect_mask(const model::Transformer& model, const model::Block& block, std::size_t number,
                  std::vector<CutCandidate>& candidates) {
  const auto& gates = block.adapters().attention;
  const auto& mask = gates.masks[number];
  const auto layer = static_cast<std::size_t>(block.layer());
  const auto weight_N = weights_of(model.base(), model.base().layers[layer], mask);
  at::Tensor z_N;
  at::Tensor p_N;
  if (gates.has_logits()) {
    const auto& logit_N = block.parameters().leaf(mask.parameter());
    z_N = adapters::settled_gates(gates.kind, logit_N).to(at::kCPU, at::kDouble);
    if (gates.kind == "hard_concrete") p_N = adapters::alive_probability(logit_N).to(at::kCPU);
  }
  for (std::int64_t n = 0; n < mask.left(); ++n) {
    const double z = z_N.defined() ? z_N[n].item<double>() : 1.0;
    if (z == 0) continue;
    const double p = p_N.defined() ? p_N[n].item<double>() : 1.0;
    const auto id = mask.dimension_id_N[static_cast<std::size_t>(n)];
    const double norm = weight_N[id].item<double>();
    candidates.push_back({std::round(p * 1000) / 1000,
                          gates.kind == "proximal" ? std::abs(z) * norm : norm,
                          id,
                          {layer, number, 0}});
  }
}

}  // namespace

CutReport cut_dimensions(model::Transformer& model, std::int64_t budget,
                         distributed::ExpertTransport& transport) {
  const at::NoGradGuard no_grad;
  std::vector<CutCandidate> candidates;
  std::vector<KeptDimensions> keep;
  CutReport report;
  for (const auto& block : model.blocks()) {
    const auto& masks = block.adapters().attention.masks;
    keep.emplace_back(masks.size());
    for (std::size_t m = 0; m < masks.size(); ++m) {
      report.before += block.whole().attention.masks[m].left();
      collect_mask(model, block, m, candidates);
    }
  }
  candidates = candidates_of_all(std::move(candidates), transport);
  keep_best(candidates, budget);
  report.after = static_cast<std::int64_t>(candidates.size());
  for (const auto& candidate : candidates) {
    const auto [layer, mask, unused] = candidate.place;
    const auto& ids = model.blocks()[layer].whole().attention.masks[mask].dimension_id_N;
    keep[layer][mask].push_back(position_of(candidate.id, ids));
  }
  for (auto& block : model.blocks()) {
    auto& kept = keep[static_cast<std::size_t>(block.layer())];
    if (kept.empty()) continue;
    for (auto& mask : kept) std::sort(mask.begin(), mask.end());
    keep_dimensions(block, kept);
  }
  transport.rearrange();
  return report;
}

}  // namespace dfmoa::train
