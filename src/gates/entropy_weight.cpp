#include "src/gates/entropy_weight.h"

#include <algorithm>
#include <cmath>

namespace dfmoa::gates {
namespace {

constexpr double kDualRate = 0.2;
constexpr double kLowest = 1e-4;
constexpr double kHighest = 10.0;
constexpr double kConfidenceStart = 1e-2;
constexpr std::size_t kConfidence = 4;  // its place in the state

/// One step of a dual in the log domain; `violation` > 0 raises its weight.
double dual_step(double rho, double violation) {
  return std::clamp(rho + kDualRate * violation, std::log(kLowest), std::log(kHighest));
}

}  // namespace

EntropyWeight::EntropyWeight(const RouterConfig& config, std::int64_t experts)
    : config_(config), layout_(config.layout(experts)) {
  const bool dual = config.entropy == "dual";
  state_ = {dual ? std::log(config.entropy_weight) : config.entropy_weight, 0.0, 0.0, 0.0};
  if (config.confidence == "dual") state_.push_back(std::log(kConfidenceStart));
}

double EntropyWeight::lambda() const {
  if (config_.entropy == "none" || layout_.experts < 2) return 0.0;
  if (config_.entropy == "dual") return std::exp(state_[0]);
  return std::max(state_[0], 0.0);
}

double EntropyWeight::confidence_lambda() const {
  return config_.confidence == "dual" && layout_.experts > 1 ? std::exp(state_[kConfidence]) : 0.0;
}

std::vector<std::unique_ptr<BalanceTerm>> EntropyWeight::terms() const {
  std::vector<std::unique_ptr<BalanceTerm>> all;
  if (lambda() > 0) {
    // Of a unit: of its p where kinds select from it, as H(w) has no gradient there.
    const bool of_p = config_.entropy == "fixed" && config_.kind != "softmax";
    all.push_back(!summed() ? load_entropy(layout_, -lambda())
                  : of_p    ? mean_entropy_p(layout_, -lambda())
                            : mean_entropy(layout_, -lambda()));
  }
  if (confidence_lambda() > 0) all.push_back(mean_entropy_p(layout_, confidence_lambda()));
  const double weight = config_.balance_weight;
  if (config_.balance == "switch") all.push_back(switch_balance(layout_, weight));
  if (config_.balance == "threshold_literal") all.push_back(threshold_balance(layout_, weight));
  if (config_.balance == "cv2") all.push_back(squared_variation(layout_, weight));
  if (config_.balance == "mutual_information") {
    all.push_back(mutual_information(layout_, -weight));
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
  const double limit = std::log(static_cast<double>(layout_.experts));
  if (config_.entropy == "dual") {
    const double missing =
        config_.entropy_target * limit - load_figures(statistics, layout_).entropy;
    state_[0] = dual_step(state_[0], missing / limit);
  } else if (config_.entropy == "literal") {
    literal_step(statistics, learning_rate, beta1, beta2);
  }
  if (config_.confidence == "dual") {
    const double mean = mean_entropy_p(layout_, 1.0)->value(statistics);
    state_[kConfidence] = dual_step(state_[kConfidence], mean / limit - config_.confidence_target);
  }
}

/// Adam on dL/dtheta = -mean H(w) where theta > 0: the run-away that docs/math.md describes.
void EntropyWeight::literal_step(std::span<const double> statistics, double learning_rate,
                                 double beta1, double beta2) {
  const double slope = state_[0] > 0 ? -mean_entropy(layout_, 1.0)->value(statistics) : 0.0;
  state_[1] = beta1 * state_[1] + (1 - beta1) * slope;
  state_[2] = beta2 * state_[2] + (1 - beta2) * slope * slope;
  state_[3] += 1;
  const double first = state_[1] / (1 - std::pow(beta1, state_[3]));
  const double second = state_[2] / (1 - std::pow(beta2, state_[3]));
  state_[0] -= learning_rate * first / (std::sqrt(second) + 1e-8);
}

void EntropyWeight::list(base::StateTree& tree, const std::string& prefix) {
  tree.add(
      {prefix, base::DType::f64, {static_cast<std::int64_t>(state_.size())}, state_.data(), 0});
}

}  // namespace dfmoa::gates
