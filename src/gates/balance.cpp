#include "src/gates/balance.h"

#include <algorithm>
#include <cmath>

namespace dfmoa::gates {
namespace {

constexpr double kDualRate = 0.2;
constexpr double kLowest = 1e-4;
constexpr double kHighest = 10.0;
constexpr double kTiny = 1e-300;

double sum_of(std::span<const double> values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}

/// Entropy of the shares of sum p_e, nats.
double load_entropy_of(std::span<const double> statistics, const StatisticsLayout& layout) {
  return load_figures(statistics, layout).entropy;
}

class LoadEntropy final : public BalanceTerm {
 public:
  LoadEntropy(const StatisticsLayout& layout, double weight) : layout_(layout), weight_(weight) {}
  double value(std::span<const double> statistics) const override {
    return weight_ * load_entropy_of(statistics, layout_);
  }
  std::vector<double> gradient(std::span<const double> statistics) const override {
    std::vector<double> kappa(statistics.size(), 0.0);
    const auto probabilities = statistics.first(static_cast<std::size_t>(layout_.experts));
    const double total = sum_of(probabilities);
    if (total <= 0) return kappa;
    const double entropy = load_entropy_of(statistics, layout_);
    for (std::size_t e = 0; e < probabilities.size(); ++e) {
      const double share = std::max(probabilities[e] / total, kTiny);
      kappa[e] = -weight_ * (std::log(share) + entropy) / total;
    }
    return kappa;
  }

 private:
  StatisticsLayout layout_;
  double weight_;
};

class MeanEntropy final : public BalanceTerm {
 public:
  MeanEntropy(const StatisticsLayout& layout, double weight) : layout_(layout), weight_(weight) {}
  double value(std::span<const double> statistics) const override {
    const double units = statistics[static_cast<std::size_t>(layout_.units())];
    return units > 0 ? weight_ * statistics[static_cast<std::size_t>(layout_.entropy_w())] / units
                     : 0.0;
  }
  std::vector<double> gradient(std::span<const double> statistics) const override {
    std::vector<double> kappa(statistics.size(), 0.0);
    const double units = statistics[static_cast<std::size_t>(layout_.units())];
    if (units > 0) kappa[static_cast<std::size_t>(layout_.entropy_w())] = weight_ / units;
    return kappa;
  }

 private:
  StatisticsLayout layout_;
  double weight_;
};

class SwitchBalance final : public BalanceTerm {
 public:
  SwitchBalance(const StatisticsLayout& layout, double weight) : layout_(layout), weight_(weight) {}
  double value(std::span<const double> statistics) const override {
    const auto factors = gradient(statistics);
    double total = 0;
    for (std::size_t e = 0; e < experts(); ++e) total += factors[e] * statistics[e];
    return total;
  }
  std::vector<double> gradient(std::span<const double> statistics) const override {
    std::vector<double> kappa(statistics.size(), 0.0);
    const double units = statistics[static_cast<std::size_t>(layout_.units())];
    const auto counts = statistics.subspan(experts(), experts());
    const double assignments = sum_of(counts);
    if (units <= 0 || assignments <= 0) return kappa;
    for (std::size_t e = 0; e < experts(); ++e) {
      kappa[e] = weight_ * static_cast<double>(experts()) * counts[e] / assignments / units;
    }
    return kappa;
  }

 private:
  std::size_t experts() const { return static_cast<std::size_t>(layout_.experts); }

  StatisticsLayout layout_;
  double weight_;
};

}  // namespace

std::unique_ptr<BalanceTerm> load_entropy(const StatisticsLayout& layout, double weight) {
  return std::make_unique<LoadEntropy>(layout, weight);
}

std::unique_ptr<BalanceTerm> mean_entropy(const StatisticsLayout& layout, double weight) {
  return std::make_unique<MeanEntropy>(layout, weight);
}

std::unique_ptr<BalanceTerm> switch_balance(const StatisticsLayout& layout, double weight) {
  return std::make_unique<SwitchBalance>(layout, weight);
}

EntropyWeight::EntropyWeight(const RouterConfig& config, std::int64_t experts)
    : config_(config), layout_{experts} {
  const bool dual = config.entropy == "dual";
  state_ = {dual ? std::log(config.entropy_weight) : config.entropy_weight, 0.0, 0.0, 0.0};
}

double EntropyWeight::lambda() const {
  if (config_.entropy == "none" || layout_.experts < 2) return 0.0;
  if (config_.entropy == "dual") return std::exp(state_[0]);
  return std::max(state_[0], 0.0);
}

std::vector<std::unique_ptr<BalanceTerm>> EntropyWeight::terms() const {
  std::vector<std::unique_ptr<BalanceTerm>> all;
  if (lambda() > 0) {
    all.push_back(summed() ? mean_entropy(layout_, -lambda()) : load_entropy(layout_, -lambda()));
  }
  if (config_.balance == "switch") {
    all.push_back(switch_balance(layout_, config_.balance_weight));
  }
  return all;
}

double EntropyWeight::value(std::span<const double> statistics) const {
  double total = 0;
  for (const auto& term : terms()) total += term->value(statistics);
  return total;
}

std::vector<double> EntropyWeight::gradient(std::span<const double> statistics) const {
  std::vector<double> total(statistics.size(), 0.0);
  for (const auto& term : terms()) {
    const auto part = term->gradient(statistics);
    for (std::size_t u = 0; u < total.size(); ++u) total[u] += part[u];
  }
  return total;
}

void EntropyWeight::step(std::span<const double> statistics, double learning_rate, double beta1,
                         double beta2) {
  if (layout_.experts < 2) return;
  if (config_.entropy == "dual") {
    const double limit = std::log(static_cast<double>(layout_.experts));
    const double missing = config_.entropy_target * limit - load_entropy_of(statistics, layout_);
    state_[0] =
        std::clamp(state_[0] + kDualRate * missing / limit, std::log(kLowest), std::log(kHighest));
  } else if (config_.entropy == "literal") {
    // Adam on dL/dtheta = -mean H(w) where theta > 0: the run-away that docs/math.md describes.
    const double slope = state_[0] > 0 ? -mean_entropy(layout_, 1.0)->value(statistics) : 0.0;
    state_[1] = beta1 * state_[1] + (1 - beta1) * slope;
    state_[2] = beta2 * state_[2] + (1 - beta2) * slope * slope;
    state_[3] += 1;
    const double first = state_[1] / (1 - std::pow(beta1, state_[3]));
    const double second = state_[2] / (1 - std::pow(beta2, state_[3]));
    state_[0] -= learning_rate * first / (std::sqrt(second) + 1e-8);
  }
}

void EntropyWeight::list(base::StateTree& tree, const std::string& prefix) {
  tree.add(
      {prefix, base::DType::f64, {static_cast<std::int64_t>(state_.size())}, state_.data(), 0});
}

}  // namespace dfmoa::gates
