// The trainable entropy weight lambda of one router, and all terms of its loss.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/state_tree.h"
#include "src/gates/balance.h"
#include "src/gates/config.h"

namespace dfmoa::gates {

/// dual     a constraint H_bal >= c log E: lambda = exp(rho) rises while it is violated.
/// fixed    lambda constant, on H_bal or on the units' mean entropy, of p before a selection.
/// literal  lambda = max(theta, 0) trained by the adapters' optimiser on CE - lambda * mean H(w).
///
/// A second dual, `confidence`, may hold the mean entropy of a unit's gate below c2 log E.
class EntropyWeight {
 public:
  EntropyWeight(const RouterConfig& config, std::int64_t experts);

  [[nodiscard]] double lambda() const;
  /// Of the confidence dual; 0 without one.
  [[nodiscard]] double confidence_lambda() const;
  /// Loss and gradient of all terms at these global statistics.
  [[nodiscard]] double value(std::span<const double> statistics) const;
  [[nodiscard]] std::vector<double> gradient(std::span<const double> statistics) const;
  /// After the optimiser's step. `learning_rate` and the betas are used by `literal` only.
  void step(std::span<const double> statistics, double learning_rate, double beta1, double beta2);

  /// Names under `prefix`, e.g. "layer/3/router/main/entropy".
  void list(base::StateTree& tree, const std::string& prefix);

  /// Terms of unit entropies are summed over routers, as their sources do; all others averaged.
  [[nodiscard]] bool summed() const {
    return config_.entropy == "literal" ||
           (config_.entropy == "fixed" && config_.entropy_of == "unit");
  }

 private:
  [[nodiscard]] std::vector<std::unique_ptr<BalanceTerm>> terms() const;
  void literal_step(std::span<const double> statistics, double learning_rate, double beta1,
                    double beta2);

  RouterConfig config_;
  StatisticsLayout layout_;
  /// rho (dual) or theta; Adam's two moments and step (literal); then rho of the confidence dual.
  std::vector<double> state_;
};

}  // namespace dfmoa::gates
