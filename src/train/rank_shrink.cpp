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

/// [active, expected] as (2) fp64 where the gates are: one element per group is summed there.
at::Tensor open_and_expected(const model::Transformer& model) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> open;
  std::vector<at::Tensor> expected;
  double ungated = 0;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      const auto z_N = evaluation_gates(block, group);
      if (!z_N.defined()) {
        ungated += static_cast<double>(group.directions());
        continue;
      }
      open.push_back((z_N > 0).sum().to(at::kDouble));
      const bool noisy = block.adapters().rank_kind == "hard_concrete";
      expected.push_back(
          noisy ? adapters::alive_probability(block.parameters().leaf(group.name + "/logit"))
                      .sum()
                      .to(at::kDouble)
                : open.back());
    }
  }
  if (open.empty()) return at::full({2}, ungated, at::kDouble);
  return at::stack({at::stack(open).sum(), at::stack(expected).sum()}).add_(ungated);
}

}  // namespace

RankCount count_rank(const model::Transformer& model) {
  const auto sums = open_and_expected(model).to(at::kCPU);
  const auto* values = sums.const_data_ptr<double>();
  return {total_rank(model), static_cast<std::int64_t>(values[0]), values[1]};
}

at::Tensor expected_rank(const model::Transformer& model) {
  return open_and_expected(model)[1];
}

std::int64_t total_rank(const model::Transformer& model) {
  std::int64_t total = 0;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) total += group.directions();
  }
  return total;
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
