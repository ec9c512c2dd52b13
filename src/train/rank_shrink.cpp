// What rank_budget.h promises about directions: counting them and removing them.
#include <map>
#include <set>

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
    for (const auto& [held, whole] : gates.segments) {
      penalised.push_back(logit_N.narrow(0, first, held).abs().sum().to(at::kDouble) /
                          static_cast<double>(whole));
      first += held;
    }
  }
};

void add_directions(const model::Block& block, std::vector<GateVector>& all) {
  for (std::size_t g = 0; g < block.adapters().groups.size(); ++g) {
    const auto& group = block.adapters().groups[g];
    if (!group.rank_gated) continue;
    GateVector gates{static_cast<std::size_t>(block.layer()),
                     group.name + "/logit",
                     block.adapters().rank_kind,
                     {}};
    for (std::size_t s = 0; s < group.sites.size(); ++s) {
      gates.segments.push_back(
          {group.sites[s].directions(), block.whole().groups[g].sites[s].directions()});
    }
    all.push_back(std::move(gates));
  }
}

void add_dimensions(const model::Block& block, std::vector<GateVector>& all) {
  const auto& attention = block.adapters().attention;
  if (!attention.has_logits()) return;
  for (const auto& mask : attention.masks) {
    GateVector gates{static_cast<std::size_t>(block.layer()), mask.parameter(), attention.kind, {}};
    // Only whole masks are averaged: `literal` is never cut.
    gates.segments.assign(static_cast<std::size_t>(mask.left() / mask.channels),
                          {mask.channels, mask.channels});
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

namespace {

std::int64_t count_in(const model::BlockAdapters& banks, RankOwner owner) {
  std::int64_t total = 0;
  if (owner == RankOwner::dimensions) {
    for (const auto& mask : banks.attention.masks) total += mask.left();
  } else {
    for (const auto& group : banks.groups) total += group.directions();
  }
  return total;
}

}  // namespace

std::int64_t total_rank(const model::Transformer& model, RankOwner owner) {
  std::int64_t total = 0;
  for (const auto& block : model.blocks()) total += count_in(block.whole(), owner);
  return total;
}

std::int64_t fixed_rank(const model::Transformer& model, RankOwner owner) {
  std::int64_t fixed = 0;
  if (owner == RankOwner::dimensions) return fixed;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.whole().groups) {
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
  std::int64_t ungated = 0;
  for (const auto& block : model.blocks()) ungated += count_in(block.adapters(), owner);
  for (const auto& gates : gate_vectors(model, owner)) {
    const auto logit_N = model.blocks()[gates.layer].parameters().leaf(gates.parameter).detach();
    ungated -= logit_N.numel();
    sums.add(gates, logit_N);
  }
  const auto always = static_cast<double>(ungated);
  const auto sum_of = [&](const std::vector<at::Tensor>& parts) {
    return parts.empty() ? at::zeros({}, options) : at::stack(parts).sum();
  };
  return at::stack(
      {sum_of(sums.open) + always, sum_of(sums.expected) + always, sum_of(sums.penalised)});
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

/// Of one site the positions that stay of what is held, given those of the whole.
std::vector<std::int64_t> held_positions(const std::vector<std::int64_t>& whole_ids,
                                         const std::vector<std::int64_t>& held_ids,
                                         const std::vector<std::int64_t>& keep) {
  std::set<std::int64_t> kept;
  for (const auto n : keep) kept.insert(whole_ids[static_cast<std::size_t>(n)]);
  std::vector<std::int64_t> positions;
  for (std::size_t n = 0; n < held_ids.size(); ++n) {
    if (kept.contains(held_ids[n])) positions.push_back(static_cast<std::int64_t>(n));
  }
  return positions;
}

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

/// The same of all banks; -> the rows of every parameter that stay.
std::map<std::string, std::vector<std::int64_t>> keep_in_banks(model::BlockAdapters& banks,
                                                               const KeptDirections& keep) {
  std::map<std::string, std::vector<std::int64_t>> rows;
  for (std::size_t g = 0; g < banks.groups.size(); ++g) {
    auto& group = banks.groups[g];
    auto& a_rows = rows[group.name + "/A"];
    for (std::size_t s = 0; s < group.sites.size(); ++s) {
      rows[group.name + "/" + group.sites[s].site + "/b"] = keep[g][s];
      keep_in_site(group.sites[s], keep[g][s], a_rows);
    }
    rows[group.name + "/logit"] = a_rows;  // gated: A is not shared
    group.index();
  }
  return rows;
}

}  // namespace

void keep_directions(model::Block& block, const KeptDirections& keep) {
  auto whole = block.whole();
  auto held = block.adapters();
  KeptDirections here = keep;
  for (std::size_t g = 0; g < held.groups.size(); ++g) {
    for (std::size_t s = 0; s < held.groups[g].sites.size(); ++s) {
      here[g][s] = held_positions(whole.groups[g].sites[s].direction_id_N,
                                  held.groups[g].sites[s].direction_id_N, keep[g][s]);
    }
  }
  (void)keep_in_banks(whole, keep);
  RowsOfParameter rows_of;
  for (const auto& [name, rows] : keep_in_banks(held, here)) {
    if (block.parameters().empty()) break;
    rows_of[name] =
        torch::tensor(rows, torch::kLong).to(block.parameters().flat_gradient().device());
  }
  auto parameters = restricted(block.parameters(), rows_of);
  block.replace(std::move(whole), {std::move(held), std::move(parameters)});
}

void keep_dimensions(model::Block& block, const KeptDimensions& keep) {
  auto whole = block.whole();
  auto held = block.adapters();
  RowsOfParameter rows_of;
  const auto device = block.parameters().empty() ? at::Device(at::kCPU)
                                                 : block.parameters().flat_gradient().device();
  const auto keep_in = [](model::DimensionMask& mask, const std::vector<std::int64_t>& positions) {
    std::vector<std::int64_t> ids;
    for (const auto position : positions) {
      ids.push_back(mask.dimension_id_N[static_cast<std::size_t>(position)]);
    }
    mask.dimension_id_N = ids;
  };
  for (std::size_t m = 0; m < keep.size(); ++m) {
    auto& mask = held.attention.masks[m];
    const auto here =
        held_positions(whole.attention.masks[m].dimension_id_N, mask.dimension_id_N, keep[m]);
    rows_of[mask.parameter()] = torch::tensor(here, torch::kLong).to(device);
    keep_in(mask, here);
    keep_in(whole.attention.masks[m], keep[m]);
  }
  auto parameters = restricted(block.parameters(), rows_of);
  block.replace(std::move(whole), {std::move(held), std::move(parameters)});
}

}  // namespace dfmoa::train
