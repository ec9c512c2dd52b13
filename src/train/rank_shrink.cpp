// What rank_budget.h promises about directions: counting them and removing them.
#include "src/adapters/rank_gate.h"
#include "src/train/rank_budget.h"

namespace dfmoa::train {

at::Tensor evaluation_gates(const model::Block& block, const adapters::GroupBank& group) {
  if (!group.rank_gated) return {};
  return adapters::settled_gates(block.adapters().rank_kind,
                                 block.parameters().leaf(group.name + "/logit").detach());
}

namespace {

/// One () fp64 element per vector of gates, or per segment.
struct GateSums {
  std::vector<at::Tensor> open, expected, penalised;

  void add(const GateVector& gates, const at::Tensor& logit_N) {
    open.push_back((adapters::settled_gates(gates.kind, logit_N) != 0).sum().to(at::kDouble));
    const bool noisy = gates.kind == "hard_concrete";
    expected.push_back(noisy ? adapters::alive_probability(logit_N).sum().to(at::kDouble)
                             : open.back());
    if (noisy) return;
    if (gates.kind == "proximal") return penalised.push_back(logit_N.abs().sum().to(at::kDouble));
    std::int64_t first = 0;
    for (const auto length : gates.segments) {
      penalised.push_back(logit_N.narrow(0, first, length).abs().mean().to(at::kDouble));
      first += length;
    }
  }
};

void add_directions(const model::Block& block, std::vector<GateVector>& all) {
  for (const auto& group : block.adapters().groups) {
    if (!group.rank_gated) continue;
    GateVector gates{static_cast<std::size_t>(block.layer()),
                     group.name + "/logit",
                     block.adapters().rank_kind,
                     {}};
    for (const auto& site : group.sites) gates.segments.push_back(site.directions());
    all.push_back(std::move(gates));
  }
}

void add_dimensions(const model::Block& block, std::vector<GateVector>& all) {
  const auto& attention = block.adapters().attention;
  if (!attention.has_logits()) return;
  for (const auto& mask : attention.masks) {
    GateVector gates{static_cast<std::size_t>(block.layer()), mask.parameter(), attention.kind, {}};
    // Only whole masks are averaged: `literal` is never cut.
    gates.segments.assign(static_cast<std::size_t>(mask.rows), mask.channels);
    all.push_back(std::move(gates));
  }
}

}  // namespace

std::vector<GateVector> gate_vectors(const model::Transformer& model, RankOwner owner) {
  std::vector<GateVector> all;
  for (const auto& block : model.blocks()) {
    owner == RankOwner::directions ? add_directions(block, all) : add_dimensions(block, all);
  }
  return all;
}

std::int64_t total_rank(const model::Transformer& model, RankOwner owner) {
  std::int64_t total = 0;
  for (const auto& block : model.blocks()) {
    if (owner == RankOwner::dimensions) {
      for (const auto& mask : block.adapters().attention.masks) total += mask.left();
    } else {
      for (const auto& group : block.adapters().groups) total += group.directions();
    }
  }
  return total;
}

std::int64_t fixed_rank(const model::Transformer& model, RankOwner owner) {
  std::int64_t fixed = 0;
  if (owner == RankOwner::dimensions) return fixed;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      for (const auto& site : group.sites) fixed += site.rank_gate.empty() ? site.directions() : 0;
    }
  }
  return fixed;
}

at::Tensor rank_figures(const model::Transformer& model, RankOwner owner) {
  const at::NoGradGuard no_grad;
  const auto options =
      at::TensorOptions().dtype(at::kDouble).device(model.base().embedding_VD.device());
  GateSums sums;
  std::int64_t gated = 0;
  for (const auto& gates : gate_vectors(model, owner)) {
    const auto logit_N = model.blocks()[gates.layer].parameters().leaf(gates.parameter).detach();
    gated += logit_N.numel();
    sums.add(gates, logit_N);
  }
  const auto ungated = static_cast<double>(total_rank(model, owner) - gated);
  const auto sum_of = [&](const std::vector<at::Tensor>& parts) {
    return parts.empty() ? at::zeros({}, options) : at::stack(parts).sum();
  };
  return at::stack(
      {sum_of(sums.open) + ungated, sum_of(sums.expected) + ungated, sum_of(sums.penalised)});
}

RankCount rank_count(const model::Transformer& model, std::span<const double, kRankFigures> figures,
                     RankOwner owner) {
  return {total_rank(model, owner), fixed_rank(model, owner), static_cast<std::int64_t>(figures[0]),
          figures[1], figures[2]};
}

RankCount count_rank(const model::Transformer& model, RankOwner owner) {
  const auto read = rank_figures(model, owner).to(at::kCPU);
  return rank_count(
      model, std::span<const double, kRankFigures>(read.const_data_ptr<double>(), kRankFigures),
      owner);
}

adapters::ParameterSet restricted(const adapters::ParameterSet& whole,
                                  const RowsOfParameter& rows_of) {
  if (whole.empty()) return whole;
  const at::NoGradGuard no_grad;
  auto specs = whole.specs();
  for (auto& spec : specs) {
    if (rows_of.contains(spec.name)) spec.shape[0] = rows_of.at(spec.name).size(0);
  }
  adapters::ParameterSet parameters(specs, whole.flat_gradient().options());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto cut = [&](const at::Tensor& tensor) {
      return rows_of.contains(specs[i].name) ? tensor.index_select(0, rows_of.at(specs[i].name))
                                             : tensor;
    };
    parameters.leaves()[i].copy_(cut(whole.leaves()[i]));
    parameters.moment1(i).copy_(cut(whole.moment1(i)));
    parameters.moment2(i).copy_(cut(whole.moment2(i)));
  }
  return parameters;
}

namespace {

/// Restricts one site to the kept positions; the rows of A that stay are added to `a_rows`.
void keep_in_site(adapters::SiteBank& site, const std::vector<std::int64_t>& keep,
                  std::vector<std::int64_t>& a_rows) {
  std::vector<std::int64_t> rank_E, ids;
  for (std::int64_t e = 0; e < site.experts(); ++e) {
    const auto begin = site.begin_of(e);
    const auto end = begin + site.rank_E[static_cast<std::size_t>(e)];
    std::int64_t kept = 0;
    for (const auto n : keep) {
      if (n < begin || n >= end) continue;
      ids.push_back(site.direction_id_N[static_cast<std::size_t>(n)]);
      if (!site.shared_a) a_rows.push_back(site.a_first + n);
      ++kept;
    }
    rank_E.push_back(kept);
  }
  for (std::int64_t row = 0; site.shared_a && row < site.a_rows(); ++row) {
    a_rows.push_back(site.a_first + row);  // its directions are never cut
  }
  site.rank_E = rank_E;
  site.direction_id_N = ids;
}

}  // namespace

void keep_directions(model::Block& block, const KeptDirections& keep) {
  auto adapters = block.adapters();
  RowsOfParameter rows_of;
  if (block.parameters().empty()) return;
  const auto device = block.parameters().flat_gradient().device();
  for (std::size_t g = 0; g < adapters.groups.size(); ++g) {
    auto& group = adapters.groups[g];
    std::vector<std::int64_t> a_rows;
    for (std::size_t s = 0; s < group.sites.size(); ++s) {
      auto& site = group.sites[s];
      rows_of[group.name + "/" + site.site + "/b"] =
          torch::tensor(keep[g][s], torch::kLong).to(device);
      keep_in_site(site, keep[g][s], a_rows);
    }
    rows_of[group.name + "/A"] = torch::tensor(a_rows, torch::kLong).to(device);
    rows_of[group.name + "/logit"] = rows_of[group.name + "/A"];  // gated: A is not shared
    group.index();
  }
  auto parameters = restricted(block.parameters(), rows_of);
  block.replace(std::move(adapters), std::move(parameters));
}

}  // namespace dfmoa::train
