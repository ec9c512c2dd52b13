// What rank_budget.h promises about directions: counting them and removing them.
#include "src/adapters/rank_gate.h"
#include "src/train/rank_budget.h"

namespace dfmoa::train {

at::Tensor evaluation_gates(const model::Block& block, const adapters::GroupBank& group) {
  if (!group.rank_gated) return {};
  const auto logit_N = block.parameters().leaf(group.name + "/logit").detach();
  return block.adapters().rank_kind == "literal" ? at::sigmoid(logit_N)
                                                 : adapters::hard_concrete(logit_N);
}

namespace {

/// One () fp64 element per group, or per site, each of a model with rank gates.
struct GateSums {
  std::vector<at::Tensor> open, expected, mean_logit;

  void add(const model::Block& block, const adapters::GroupBank& group, const at::Tensor& z_N) {
    const auto logit_N = block.parameters().leaf(group.name + "/logit").detach();
    open.push_back((z_N > 0).sum().to(at::kDouble));
    const bool noisy = block.adapters().rank_kind == "hard_concrete";
    expected.push_back(noisy ? adapters::alive_probability(logit_N).sum().to(at::kDouble)
                             : open.back());
    if (noisy) return;
    for (const auto& site : group.sites) {
      mean_logit.push_back(
          logit_N.narrow(0, site.first, site.directions()).abs().mean().to(at::kDouble));
    }
  }
};

}  // namespace

std::int64_t total_rank(const model::Transformer& model) {
  std::int64_t total = 0;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) total += group.directions();
  }
  return total;
}

std::int64_t fixed_rank(const model::Transformer& model) {
  std::int64_t fixed = 0;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      for (const auto& site : group.sites) fixed += site.rank_gate.empty() ? site.directions() : 0;
    }
  }
  return fixed;
}

at::Tensor rank_figures(const model::Transformer& model) {
  const at::NoGradGuard no_grad;
  const auto options =
      at::TensorOptions().dtype(at::kDouble).device(model.base().embedding_VD.device());
  GateSums sums;
  double ungated = 0;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      const auto z_N = evaluation_gates(block, group);
      if (z_N.defined()) {
        sums.add(block, group, z_N);
      } else {
        ungated += static_cast<double>(group.directions());
      }
    }
  }
  const auto sum_of = [&](const std::vector<at::Tensor>& parts) {
    return parts.empty() ? at::zeros({}, options) : at::stack(parts).sum();
  };
  return at::stack(
      {sum_of(sums.open) + ungated, sum_of(sums.expected) + ungated, sum_of(sums.mean_logit)});
}

RankCount rank_count(const model::Transformer& model,
                     std::span<const double, kRankFigures> figures) {
  return {total_rank(model), fixed_rank(model), static_cast<std::int64_t>(figures[0]), figures[1],
          figures[2]};
}

RankCount count_rank(const model::Transformer& model) {
  const auto read = rank_figures(model).to(at::kCPU);
  return rank_count(
      model, std::span<const double, kRankFigures>(read.const_data_ptr<double>(), kRankFigures));
}

void keep_directions(model::Block& block,
                     const std::vector<std::vector<std::vector<std::int64_t>>>& keep) {
  const at::NoGradGuard no_grad;
  const auto& old_parameters = block.parameters();
  const auto device = old_parameters.flat_gradient().device();
  auto adapters = block.adapters();
  std::map<std::string, at::Tensor> rows_of;  // parameter name -> rows that stay
  for (std::size_t g = 0; g < adapters.groups.size(); ++g) {
    auto& group = adapters.groups[g];
    std::vector<std::int64_t> group_rows;
    for (std::size_t s = 0; s < group.sites.size(); ++s) {
      auto& site = group.sites[s];
      std::vector<std::int64_t> rank_E, ids;
      for (std::int64_t e = 0; e < site.experts(); ++e) {
        const auto begin = site.begin_of(e);
        const auto end = begin + site.rank_E[static_cast<std::size_t>(e)];
        std::int64_t kept = 0;
        for (const auto n : keep[g][s]) {
          if (n < begin || n >= end) continue;
          ids.push_back(site.direction_id_N[static_cast<std::size_t>(n)]);
          group_rows.push_back(site.first + n);
          ++kept;
        }
        rank_E.push_back(kept);
      }
      rows_of[group.name + "/" + site.site + "/b"] =
          torch::tensor(keep[g][s], torch::kLong).to(device);
      site.rank_E = rank_E;
      site.direction_id_N = ids;
    }
    rows_of[group.name + "/A"] = torch::tensor(group_rows, torch::kLong).to(device);
    rows_of[group.name + "/logit"] = rows_of[group.name + "/A"];
    group.index();
  }
  auto specs = old_parameters.specs();
  for (auto& spec : specs) {
    if (rows_of.contains(spec.name)) spec.shape[0] = rows_of[spec.name].size(0);
  }
  adapters::ParameterSet parameters(specs, old_parameters.flat_gradient().options());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto cut = [&](const at::Tensor& tensor) {
      return rows_of.contains(specs[i].name) ? tensor.index_select(0, rows_of[specs[i].name])
                                             : tensor;
    };
    parameters.leaves()[i].copy_(cut(old_parameters.leaves()[i]));
    parameters.moment1(i).copy_(cut(old_parameters.moment1(i)));
    parameters.moment2(i).copy_(cut(old_parameters.moment2(i)));
  }
  block.replace(std::move(adapters), std::move(parameters));
}

}  // namespace dfmoa::train
