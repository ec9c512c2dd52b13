#include "src/gates/balance.h"

#include <algorithm>
#include <cmath>

namespace dfmoa::gates {
namespace {

constexpr double kTiny = 1e-300;

double sum_of(std::span<const double> values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}

/// What all terms know: where their numbers stand, and their weight.
class Term : public BalanceTerm {
 public:
  Term(const StatisticsLayout& layout, double weight) : layout_(layout), weight_(weight) {}

 protected:
  using Statistics = std::span<const double>;

  [[nodiscard]] std::size_t experts() const { return static_cast<std::size_t>(layout_.experts); }
  [[nodiscard]] Statistics probabilities(Statistics s) const { return s.first(experts()); }
  [[nodiscard]] double units(Statistics s) const {
    return s[static_cast<std::size_t>(layout_.units())];
  }
  [[nodiscard]] const StatisticsLayout& layout() const { return layout_; }
  [[nodiscard]] double weight() const { return weight_; }

 private:
  StatisticsLayout layout_;
  double weight_;
};

class LoadEntropy final : public Term {
 public:
  using Term::Term;
  double value(Statistics s) const override { return weight() * load_figures(s, layout()).entropy; }
  std::vector<double> gradient(Statistics s) const override {
    std::vector<double> kappa(s.size(), 0.0);
    const double total = sum_of(probabilities(s));
    if (total <= 0) return kappa;
    const double entropy = load_figures(s, layout()).entropy;
    for (std::size_t e = 0; e < experts(); ++e) {
      const double share = std::max(s[e] / total, kTiny);
      kappa[e] = -weight() * (std::log(share) + entropy) / total;
    }
    return kappa;
  }
};

/// Mean over units of one of the vector's sums.
class MeanOf final : public Term {
 public:
  MeanOf(const StatisticsLayout& layout, double weight, std::int64_t position)
      : Term(layout, weight), position_(static_cast<std::size_t>(position)) {}
  double value(Statistics s) const override {
    return units(s) > 0 ? weight() * s[position_] / units(s) : 0.0;
  }
  std::vector<double> gradient(Statistics s) const override {
    std::vector<double> kappa(s.size(), 0.0);
    if (units(s) > 0) kappa[position_] = weight() / units(s);
    return kappa;
  }

 private:
  std::size_t position_;
};

/// E * sum_e f_e P_e; `above_threshold`: with mean(p_e - tau) for P_e.
class SwitchBalance final : public Term {
 public:
  SwitchBalance(const StatisticsLayout& layout, double weight, bool above_threshold)
      : Term(layout, weight), above_threshold_(above_threshold) {}
  double value(Statistics s) const override {
    const auto factors = gradient(s);
    double total = 0;
    for (std::size_t u = 0; u < s.size(); ++u) total += factors[u] * s[u];
    return total;
  }
  std::vector<double> gradient(Statistics s) const override {
    std::vector<double> kappa(s.size(), 0.0);
    const auto counts = s.subspan(experts(), experts());
    const double assignments = sum_of(counts);
    if (units(s) <= 0 || assignments <= 0) return kappa;
    const double whole = weight() * static_cast<double>(experts()) / units(s);
    for (std::size_t e = 0; e < experts(); ++e) kappa[e] = whole * counts[e] / assignments;
    if (above_threshold_) kappa[static_cast<std::size_t>(layout().threshold())] = -whole;
    return kappa;
  }

 private:
  bool above_threshold_;
};

/// Variance / mean^2 = E * sum p_e^2 / (sum p_e)^2 - 1.
class SquaredVariation final : public Term {
 public:
  using Term::Term;
  double value(Statistics s) const override {
    const double total = sum_of(probabilities(s));
    if (total <= 0) return 0;
    return weight() * (static_cast<double>(experts()) * squares(s) / (total * total) - 1);
  }
  std::vector<double> gradient(Statistics s) const override {
    std::vector<double> kappa(s.size(), 0.0);
    const double total = sum_of(probabilities(s));
    if (total <= 0) return kappa;
    const double factor = 2 * weight() * static_cast<double>(experts()) / (total * total * total);
    for (std::size_t e = 0; e < experts(); ++e) kappa[e] = factor * (s[e] * total - squares(s));
    return kappa;
  }

 private:
  [[nodiscard]] double squares(Statistics s) const {
    double total = 0;
    for (const double value : probabilities(s)) total += value * value;
    return total;
  }
};

/// The sum of two terms.
class Sum final : public BalanceTerm {
 public:
  Sum(std::unique_ptr<BalanceTerm> first, std::unique_ptr<BalanceTerm> second)
      : first_(std::move(first)), second_(std::move(second)) {}
  double value(std::span<const double> s) const override {
    return first_->value(s) + second_->value(s);
  }
  std::vector<double> gradient(std::span<const double> s) const override {
    auto total = first_->gradient(s);
    const auto other = second_->gradient(s);
    for (std::size_t u = 0; u < total.size(); ++u) total[u] += other[u];
    return total;
  }

 private:
  std::unique_ptr<BalanceTerm> first_;
  std::unique_ptr<BalanceTerm> second_;
};

}  // namespace

std::unique_ptr<BalanceTerm> load_entropy(const StatisticsLayout& layout, double weight) {
  return std::make_unique<LoadEntropy>(layout, weight);
}

std::unique_ptr<BalanceTerm> mean_entropy(const StatisticsLayout& layout, double weight) {
  return std::make_unique<MeanOf>(layout, weight, layout.entropy_w());
}

std::unique_ptr<BalanceTerm> mean_entropy_p(const StatisticsLayout& layout, double weight) {
  return std::make_unique<MeanOf>(layout, weight, layout.entropy_p());
}

std::unique_ptr<BalanceTerm> switch_balance(const StatisticsLayout& layout, double weight) {
  return std::make_unique<SwitchBalance>(layout, weight, /*above_threshold=*/false);
}

std::unique_ptr<BalanceTerm> threshold_balance(const StatisticsLayout& layout, double weight) {
  return std::make_unique<SwitchBalance>(layout, weight, /*above_threshold=*/true);
}

std::unique_ptr<BalanceTerm> squared_variation(const StatisticsLayout& layout, double weight) {
  return std::make_unique<SquaredVariation>(layout, weight);
}

std::unique_ptr<BalanceTerm> mutual_information(const StatisticsLayout& layout, double weight) {
  return std::make_unique<Sum>(load_entropy(layout, weight), mean_entropy_p(layout, -weight));
}

}  // namespace dfmoa::gates
