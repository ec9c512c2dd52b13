// Terms that keep a mixture in use. Each is a function of the router's global statistics vector,
// with a gradient in closed form: the step seeds backward with it (docs/architecture.md, The step).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/state_tree.h"
#include "src/gates/config.h"
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
/// weight * mean over units of H(w).
[[nodiscard]] std::unique_ptr<BalanceTerm> mean_entropy(const StatisticsLayout& layout,
                                                        double weight);
/// weight * E * sum_e f_e P_e, f = share of assignments (constant), P = mean p.
[[nodiscard]] std::unique_ptr<BalanceTerm> switch_balance(const StatisticsLayout& layout,
                                                          double weight);

/// The trainable entropy weight lambda of one router, and all terms of its loss.
///
/// dual     a constraint H_bal >= c log E: lambda = exp(rho) rises while it is violated.
/// fixed    lambda constant.
/// literal  lambda = max(theta, 0) trained by the adapters' optimiser on CE - lambda * mean H(w).
class EntropyWeight {
 public:
  EntropyWeight(const RouterConfig& config, std::int64_t experts);

  [[nodiscard]] double lambda() const;
  /// Loss and gradient of all terms at these global statistics.
  [[nodiscard]] double value(std::span<const double> statistics) const;
  [[nodiscard]] std::vector<double> gradient(std::span<const double> statistics) const;
  /// After the optimiser's step. `learning_rate` and the betas are used by `literal` only.
  void step(std::span<const double> statistics, double learning_rate, double beta1, double beta2);

  /// Names under `prefix`, e.g. "layer/3/router/main/entropy".
  void list(base::StateTree& tree, const std::string& prefix);

  /// Loss terms of `literal` are summed over routers, as its source does; all others averaged.
  [[nodiscard]] bool summed() const { return config_.entropy == "literal"; }

 private:
  [[nodiscard]] std::vector<std::unique_ptr<BalanceTerm>> terms() const;

  RouterConfig config_;
  StatisticsLayout layout_;
  std::vector<double> state_;  ///< rho (dual) or theta; then Adam's two moments and step (literal)
};

}  // namespace dfmoa::gates
