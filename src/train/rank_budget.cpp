#include "src/train/rank_budget.h"

#include <set>

#include "src/adapters/rank_gate.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::train {
namespace {

using adapters::GroupBank;

/// Calls visit(block, group, group number) for every group that has sites.
template <class Model, class Visit>
void for_each_group(Model& model, Visit&& visit) {
  for (auto& block : model.blocks()) {
    for (std::size_t g = 0; g < block.adapters().groups.size(); ++g) {
      if (!block.adapters().groups[g].sites.empty()) visit(block, block.adapters().groups[g], g);
    }
  }
}

const at::Tensor& logits_of(const model::Block& block, const GroupBank& group) {
  return block.parameters().leaf(group.name + "/logit");
}

}  // namespace

RankBudget::RankBudget(const model::AdapterPlan& plan, std::int64_t steps) {
  std::set<std::string> names;
  for (const auto& [name, adapter] : plan.adapters) {
    if (!adapter.rank_gate.empty()) names.insert(adapter.rank_gate);
  }
  if (names.empty()) return;
  if (names.size() > 1) {
    throw base::UsageError(base::text("adapters name ", names.size(),
                                      " rank gates, expected one [rank.NAME] for a run: its budget "
                                      "is that of the whole model"));
  }
  config_ = plan.rank_gates.at(*names.begin());
  if (config_->cut < config_->start) {
    throw base::UsageError(base::text("configuration rank.", *names.begin(),
                                      ".cut = ", config_->cut,
                                      ": expected at least start = ", config_->start));
  }
  if (config_->budget > 0 && config_->budget < 1) {
    throw base::UsageError(base::text("configuration rank.", *names.begin(),
                                      ".budget = ", config_->budget,
                                      ": expected 0 (no limit) or at least 1 direction"));
  }
  start_ = static_cast<std::int64_t>(config_->start * static_cast<double>(steps));
  cut_ = static_cast<std::int64_t>(config_->cut * static_cast<double>(steps));
  cut_ = std::min(cut_, std::max<std::int64_t>(steps - 1, 0));  // cut = 1: before the last step
  lambda_ = config_->kind == "hard_concrete" && config_->budget > 0 ? 0.0 : config_->strength;
}

model::RankPhase RankBudget::phase(std::int64_t step) const {
  if (!config_ || config_->kind != "hard_concrete" || was_cut_ || step >= cut_) {
    return model::RankPhase::settled;
  }
  return step < start_ ? model::RankPhase::held : model::RankPhase::noisy;
}

double RankBudget::learning_rate() const {
  if (!config_ || config_->kind == "norm") return 0;
  if (config_->learning_rate >= 0) return config_->learning_rate;
  return 10.0 / static_cast<double>(std::max<std::int64_t>(cut_ - start_, 1));
}

bool RankBudget::penalises(std::int64_t step) const {
  if (!config_ || config_->kind == "norm") return false;
  return config_->kind == "literal" || (step >= start_ && step < cut_ && !was_cut_);
}

double RankBudget::penalty(const RankCount& rank, std::int64_t step) const {
  if (!penalises(step)) return 0;
  if (config_->kind == "literal") return lambda_ * rank.mean_logit;
  const double expected = rank.expected - static_cast<double>(rank.fixed);
  const double excess = config_->budget > 0 ? std::max(expected - config_->budget, 0.0) : expected;
  return lambda_ * excess / static_cast<double>(std::max<std::int64_t>(rank.total - rank.fixed, 1));
}

void RankBudget::add_gradient(model::Transformer& model, std::int64_t step) const {
  if (!penalises(step)) return;
  const at::NoGradGuard no_grad;
  const auto fixed = static_cast<double>(fixed_rank(model));
  const auto total = static_cast<double>(total_rank(model)) - fixed;
  at::Tensor exceeded;  // 1 above the budget, else 0: decided where the gates are
  if (config_->kind == "hard_concrete" && config_->budget > 0) {
    exceeded = rank_figures(model)[1] > config_->budget + fixed;
  }
  for_each_group(model, [&](auto& block, const auto& group, std::size_t) {
    if (!group.rank_gated) return;
    auto& parameters = block.parameters();
    auto gradient_N = parameters.gradient(parameters.index_of(group.name + "/logit"));
    const auto& m = logits_of(block, group);
    if (config_->kind == "hard_concrete") {
      const auto p = adapters::alive_probability(m);
      const auto slope_N = p * (1.0 - p);
      gradient_N.add_(exceeded.defined() ? slope_N * exceeded : slope_N, lambda_ / total);
      return;
    }
    for (const auto& site : group.sites) {
      const auto count = site.directions();
      gradient_N.narrow(0, site.first, count)
          .add_(m.narrow(0, site.first, count).sign(), lambda_ / static_cast<double>(count));
    }
  });
}

void RankBudget::dual_step(const RankCount& rank, std::int64_t step) {
  if (!penalises(step) || config_->kind != "hard_concrete" || config_->budget <= 0) return;
  const double rate = 4.0 / static_cast<double>(std::max<std::int64_t>(cut_ - start_, 1));
  const double expected = rank.expected - static_cast<double>(rank.fixed);
  const double excess = (expected - config_->budget) / config_->budget;
  lambda_ = std::max(0.0, lambda_ + rate * excess);
}

bool RankBudget::cuts_at(std::int64_t step) const {
  return config_ && config_->kind != "literal" && !was_cut_ && step >= cut_;
}

namespace {

/// A direction that may stay.
struct Candidate {
  double probability;  // rounded to 1e-3, so that noise of the last bits does not decide
  double norm;         // |A_n| |B_n|
  std::int64_t id;
  std::size_t block, group, site;
  std::int64_t direction;
};

at::Tensor row_norms(const at::Tensor& matrix) {
  return at::linalg_vector_norm(matrix, 2, at::IntArrayRef{1}).to(at::kCPU, at::kDouble);
}

/// Where the sites of a model's adapters without a rank gate keep all they have.
using Fixed = std::vector<Candidate>;

/// Open directions of one group's sites with a rank gate; all of its other sites go to `fixed`.
/// Returns how many the former have, open or not.
std::int64_t collect(const model::Block& block, const GroupBank& group, std::size_t number,
                     std::vector<Candidate>& candidates, Fixed& fixed) {
  std::int64_t count = 0;
  const auto a_norm_N = row_norms(block.parameters().leaf(group.name + "/A"));
  at::Tensor z_N;
  at::Tensor p_N;
  if (group.rank_gated) {
    z_N = evaluation_gates(block, group).to(at::kCPU);
    p_N = adapters::alive_probability(logits_of(block, group)).to(at::kCPU);
  }
  for (std::size_t s = 0; s < group.sites.size(); ++s) {
    const auto& site = group.sites[s];
    const auto layer = static_cast<std::size_t>(block.layer());
    if (site.rank_gate.empty()) {
      for (std::int64_t n = 0; n < site.directions(); ++n) {
        fixed.push_back({1.0, 0.0, 0, layer, number, s, n});
      }
      continue;
    }
    count += site.directions();
    const auto b_norm_N = row_norms(block.parameters().leaf(group.name + "/" + site.site + "/b"));
    for (std::int64_t n = 0; n < site.directions(); ++n) {
      const auto row = site.first + n;
      if (z_N.defined() && z_N[row].item<double>() <= 0) continue;
      const double p = p_N.defined() ? p_N[row].item<double>() : 1.0;
      candidates.push_back({std::round(p * 1000) / 1000,
                            a_norm_N[row].item<double>() * b_norm_N[n].item<double>(),
                            site.direction_id_N[static_cast<std::size_t>(n)], layer, number, s, n});
    }
  }
  return count;
}

/// Restricts every adapted block to the candidates that are left.
void keep_candidates(model::Transformer& model, const std::vector<Candidate>& candidates) {
  for (std::size_t layer = 0; layer < model.blocks().size(); ++layer) {
    auto& block = model.blocks()[layer];
    if (block.adapters().empty()) continue;
    std::vector<std::vector<std::vector<std::int64_t>>> keep;
    for (const auto& group : block.adapters().groups) keep.emplace_back(group.sites.size());
    for (const auto& candidate : candidates) {
      if (candidate.block != layer) continue;
      keep[candidate.group][candidate.site].push_back(candidate.direction);
    }
    for (auto& group : keep) {
      for (auto& site : group) std::sort(site.begin(), site.end());
    }
    keep_directions(block, keep);
  }
}

}  // namespace

CutReport RankBudget::cut(model::Transformer& model) {
  const at::NoGradGuard no_grad;
  was_cut_ = true;
  std::vector<Candidate> candidates;
  Fixed fixed;
  CutReport report;
  for_each_group(model, [&](const auto& block, const auto& group, std::size_t number) {
    report.before += collect(block, group, number, candidates, fixed);
  });
  std::stable_sort(candidates.begin(), candidates.end(), [](const auto& x, const auto& y) {
    return std::tie(y.probability, y.norm, x.id) < std::tie(x.probability, x.norm, y.id);
  });
  const auto limit =
      config_->budget > 0 ? static_cast<std::size_t>(config_->budget) : candidates.size();
  candidates.resize(std::min(limit, candidates.size()));
  report.after = static_cast<std::int64_t>(candidates.size());
  candidates.insert(candidates.end(), fixed.begin(), fixed.end());
  keep_candidates(model, candidates);
  for_each_group(model, [](auto& block, const auto& group, std::size_t) {
    auto& parameters = block.parameters();
    if (group.rank_gated) parameters.moment1(parameters.index_of(group.name + "/logit")).zero_();
  });
  return report;
}

void RankBudget::list(base::StateTree& tree) {
  tree.add({"rank/lambda", base::DType::f64, {1}, &lambda_, 0});
  tree.set("rank/was_cut", std::int64_t{was_cut_ ? 1 : 0});
}

void RankBudget::resume(const base::StateTree& saved, std::int64_t step) {
  was_cut_ = saved.values().contains("rank/was_cut") ? saved.integer("rank/was_cut") == 1
                                                     : config_ && step > cut_;
}

}  // namespace dfmoa::train
