// Terms that keep a mixture in use. Each is a function of the router's global statistics vector,
// with a gradient in closed form: the step seeds backward with it (docs/architecture.md, The step).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/gates/statistics.h"

namespace dfmoa::gates {

/// value(s) joins the loss; gradient(s) = d value / d s, same length as s.
class BalanceTerm {
 public:
  virtual ~BalanceTerm() = default;
  [[nodiscard]] virtual double value(std::span<const double> statistics) const = 0;
  [[nodiscard]] virtual std::vector<double> gradient(std::span<const double> statistics) const = 0;
};

/// weight * H_bal with H_bal the entropy of the mean gate's shares.
[[nodiscard]] std::unique_ptr<BalanceTerm> load_entropy(const StatisticsLayout& layout,
                                                        double weight);
/// weight * mean over units of H(w), or of H(p).
[[nodiscard]] std::unique_ptr<BalanceTerm> mean_entropy(const StatisticsLayout& layout,
                                                        double weight);
[[nodiscard]] std::unique_ptr<BalanceTerm> mean_entropy_p(const StatisticsLayout& layout,
                                                          double weight);
/// weight * E * sum_e f_e P_e, f = share of assignments (constant), P = mean p.
[[nodiscard]] std::unique_ptr<BalanceTerm> switch_balance(const StatisticsLayout& layout,
                                                          double weight);
/// The same with mean(p_e - tau) for P: AdaMoLE's own form.
[[nodiscard]] std::unique_ptr<BalanceTerm> threshold_balance(const StatisticsLayout& layout,
                                                             double weight);
/// weight * variance / mean^2 of sum p_e over the experts.
[[nodiscard]] std::unique_ptr<BalanceTerm> squared_variation(const StatisticsLayout& layout,
                                                             double weight);
/// weight * (H(mean p) - mean H(p)): what a unit tells of its expert.
[[nodiscard]] std::unique_ptr<BalanceTerm> mutual_information(const StatisticsLayout& layout,
                                                              double weight);

}  // namespace dfmoa::gates
