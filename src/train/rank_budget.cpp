#include "src/train/rank_budget.h"

#include <set>

#include "src/adapters/rank_gate.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/dtype.h"
#include "src/train/singular_directions.h"

namespace dfmoa::train {
namespace {

std::set<std::string> named_gates(const model::AdapterPlan& plan, RankOwner owner) {
  std::set<std::string> names;
  if (owner == RankOwner::dimensions) {
    if (!plan.dfa.rank_gate.empty()) names.insert(plan.dfa.rank_gate);
    return names;
  }
  for (const auto& [name, adapter] : plan.adapters) {
    if (!adapter.rank_gate.empty()) names.insert(adapter.rank_gate);
  }
  return names;
}

void check(const std::string& name, const adapters::RankGateConfig& config) {
  if (config.cut < config.start) {
    throw base::UsageError(base::text("configuration rank.", name, ".cut = ", config.cut,
                                      ": expected at least start = ", config.start));
  }
  if (config.budget > 0 && config.budget < 1) {
    throw base::UsageError(base::text("configuration rank.", name, ".budget = ", config.budget,
                                      ": expected 0 (no limit) or at least 1 direction"));
  }
}

/// Adds sign(m) / length of every segment.
void add_mean_slope(const at::Tensor& gradient_N, const at::Tensor& m, const GateVector& gates,
                    double weight) {
  std::int64_t first = 0;
  for (const auto& [held, whole] : gates.segments) {
    gradient_N.narrow(0, first, held)
        .add_(m.narrow(0, first, held).sign(), weight / static_cast<double>(whole));
    first += held;
  }
}

/// Every process's gates of one kind, the same everywhere.
at::Tensor all_magnitudes(const std::vector<at::Tensor>& held,
                          distributed::ExpertTransport& transport, at::TensorOptions options) {
  const auto mine = held.empty() ? at::zeros({0}, options) : at::cat(held);
  if (!transport.is_sharded()) return mine;
  auto& comm = transport.mesh().experts();
  auto count = mine.numel();
  comm.all_reduce(&count, 1, base::DType::i64, comm::Op::max, "C3/proximal");
  // Pads are below every magnitude, and no budget asks for as many gates as there are with them.
  const auto padded = at::full({count}, -1.0, options.device(at::kCPU));
  padded.narrow(0, 0, mine.numel()).copy_(mine);
  const auto all = at::empty({count * comm.num_processes()}, padded.options());
  comm.all_gather(padded.const_data_ptr(), count, all.mutable_data_ptr(),
                  ops::from_torch(all.scalar_type()), "C3/proximal");
  return all.masked_select(all >= 0).to(options.device());
}

}  // namespace

RankBudget::RankBudget(const model::AdapterPlan& plan, std::int64_t steps, RankOwner owner)
    : owner_(owner) {
  const auto names = named_gates(plan, owner);
  if (names.empty()) return;
  if (names.size() > 1) {
    throw base::UsageError(base::text("adapters name ", names.size(),
                                      " rank gates, expected one [rank.NAME] for a run: its budget "
                                      "is that of the whole model"));
  }
  config_ = plan.rank_gates.at(*names.begin());
  check(*names.begin(), *config_);
  start_ = static_cast<std::int64_t>(config_->start * static_cast<double>(steps));
  cut_ = static_cast<std::int64_t>(config_->cut * static_cast<double>(steps));
  cut_ = std::min(cut_, std::max<std::int64_t>(steps - 1, 0));  // cut = 1: before the last step
  lambda_ = has_dual() ? 0.0 : config_->strength;
}

bool RankBudget::has_dual() const {
  return (config_->kind == "hard_concrete" || config_->kind == "proximal") && config_->budget > 0;
}

model::RankPhase RankBudget::phase(std::int64_t step) const {
  if (!config_ || config_->kind != "hard_concrete" || was_cut_ || step >= cut_) {
    return model::RankPhase::settled;
  }
  return step < start_ ? model::RankPhase::held : model::RankPhase::noisy;
}

double RankBudget::learning_rate(std::int64_t step) const {
  if (!config_ || !adapters::has_trained_gates(config_->kind)) return 0;
  const bool is_free = config_->kind == "proximal";
  if (is_free && step < start_) return 0;
  if (config_->learning_rate >= 0) return config_->learning_rate;
  // A logit has 4.8 to go until its gate is shut, a free gate 1.
  const double distance = is_free ? 2.0 : 10.0;
  return distance / static_cast<double>(std::max<std::int64_t>(cut_ - start_, 1));
}

bool RankBudget::penalises(std::int64_t step) const {
  if (!config_ || !adapters::has_trained_gates(config_->kind)) return false;
  return config_->kind == "literal" || (step >= start_ && step < cut_ && !was_cut_);
}

bool RankBudget::compares_gates(std::int64_t step) const {
  return penalises(step) && config_->kind == "proximal" && has_dual();
}

double RankBudget::penalty(const RankCount& rank, std::int64_t step) const {
  if (!penalises(step)) return 0;
  if (config_->kind != "hard_concrete") return lambda_ * rank.penalised;
  const double expected = rank.expected - static_cast<double>(rank.fixed);
  const double excess = config_->budget > 0 ? std::max(expected - config_->budget, 0.0) : expected;
  return lambda_ * excess / static_cast<double>(std::max<std::int64_t>(rank.total - rank.fixed, 1));
}

void RankBudget::add_gradient(model::Transformer& model, std::int64_t step,
                              std::optional<double> expected) const {
  if (!penalises(step) || config_->kind == "proximal") return;
  const at::NoGradGuard no_grad;
  const auto fixed = static_cast<double>(fixed_rank(model, owner_));
  const auto total = static_cast<double>(total_rank(model, owner_)) - fixed;
  at::Tensor exceeded;  // 1 above the budget, else 0: decided where the gates are
  if (has_dual() && expected) {
    if (*expected <= config_->budget + fixed) return;
  } else if (has_dual()) {
    exceeded = rank_figures(model, owner_)[1] > config_->budget + fixed;
  }
  for (const auto& gates : gate_vectors(model, owner_)) {
    auto& parameters = model.blocks()[gates.layer].parameters();
    auto gradient_N = parameters.gradient(parameters.index_of(gates.parameter));
    const auto& m = parameters.leaf(gates.parameter);
    if (config_->kind == "literal") {
      add_mean_slope(gradient_N, m, gates, lambda_);
      continue;
    }
    const auto p = adapters::alive_probability(m);
    const auto slope_N = p * (1.0 - p);
    gradient_N.add_(exceeded.defined() ? slope_N * exceeded : slope_N, lambda_ / total);
  }
}

void RankBudget::shrink_gates(model::Transformer& model, std::int64_t step,
                              distributed::ExpertTransport& transport) const {
  if (!penalises(step) || config_->kind != "proximal") return;
  const auto options =
      at::TensorOptions().dtype(model.dtype()).device(model.base().embedding_VD.device());
  auto threshold = at::full({}, learning_rate(step) * lambda_, options);
  const auto all = gate_vectors(model, owner_);
  if (compares_gates(step)) {  // never above the first gate that the budget has no room for
    std::vector<at::Tensor> magnitude;
    for (const auto& gates : all) {
      magnitude.push_back(
          model.blocks()[gates.layer].parameters().leaf(gates.parameter).detach().abs());
    }
    const auto sorted_N =
        std::get<0>(all_magnitudes(magnitude, transport, options).sort(0, /*descending=*/true));
    const auto room = static_cast<std::int64_t>(config_->budget);
    if (sorted_N.size(0) <= room) return;
    threshold = at::minimum(threshold, sorted_N[room]);
  }
  for (const auto& gates : all) {
    adapters::soft_threshold(model.blocks()[gates.layer].parameters().leaf(gates.parameter),
                             threshold);
  }
}

void RankBudget::dual_step(const RankCount& rank, std::int64_t step) {
  if (!penalises(step) || !has_dual()) return;
  const double rate = 4.0 / static_cast<double>(std::max<std::int64_t>(cut_ - start_, 1));
  const double expected = rank.expected - static_cast<double>(rank.fixed);
  const double excess = (expected - config_->budget) / config_->budget;
  lambda_ = std::max(0.0, lambda_ + rate * excess);
}

bool RankBudget::cuts_at(std::int64_t step) const {
  return config_ && config_->kind != "literal" && !was_cut_ && step >= cut_;
}

CutReport RankBudget::cut(model::Transformer& model, distributed::ExpertTransport& transport) {
  was_cut_ = true;
  const auto limit = static_cast<std::int64_t>(config_->budget);
  if (config_->kind == "svd") to_singular_directions(model);
  const auto report = owner_ == RankOwner::directions ? cut_directions(model, limit, transport)
                                                      : cut_dimensions(model, limit, transport);
  for (const auto& gates : gate_vectors(model, owner_)) {
    auto& parameters = model.blocks()[gates.layer].parameters();
    parameters.moment1(parameters.index_of(gates.parameter)).zero_();
  }
  return report;
}

std::string RankBudget::state_name(const std::string& name) const {
  return (owner_ == RankOwner::directions ? "rank/" : "dfa/rank/") + name;
}

void RankBudget::list(base::StateTree& tree) {
  if (!config_ && owner_ == RankOwner::dimensions) return;
  tree.add({state_name("lambda"), base::DType::f64, {1}, &lambda_, 0});
  tree.set(state_name("was_cut"), std::int64_t{was_cut_ ? 1 : 0});
}

void RankBudget::resume(const base::StateTree& saved, std::int64_t step) {
  const auto name = state_name("was_cut");
  was_cut_ = saved.values().contains(name) ? saved.integer(name) == 1 : config_ && step > cut_;
}

}  // namespace dfmoa::train
