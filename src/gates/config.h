// [router.NAME]: how a gate is computed and how its use is balanced.
#pragma once

#include <cstdint>
#include <string>

#include "src/base/fields.h"
#include "src/gates/statistics.h"

namespace dfmoa::gates {

struct RouterConfig {
  std::string kind = "softmax";
  std::int64_t top_k = 2;
  double threshold_max = -1;
  double temperature = 1.0;
  std::string network = "linear";
  std::string scope = "token";
  std::string input = "per_block";
  std::string over = "experts";
  std::string mix = "linears";
  std::string init = "auto";
  double init_scale = 0.02;
  double learning_rate = -1;
  std::string entropy = "dual";
  std::string entropy_of = "load";
  double entropy_weight = 1e-2;
  double entropy_target = 0.9;
  std::string confidence = "none";
  double confidence_target = 0.5;
  std::string balance = "none";
  double balance_weight = 1e-3;

  void fields(base::FieldList& list);

  /// How the weight starts: "zero", "normal" or "uniform". Gates that select start from random
  /// logits (zero logits tie every choice), dense ones from 0.
  [[nodiscard]] std::string start() const;

  /// Mean gate at the start, the w0 of docs/math.md.
  [[nodiscard]] double mean_gate(std::int64_t experts) const;

  /// A trained threshold per unit belongs to the kind; its largest value, tau_max or Gamma_max.
  [[nodiscard]] bool has_threshold() const;
  [[nodiscard]] double largest_threshold(std::int64_t experts) const;

  /// Memberships that are independent of each other, instead of shares that sum to 1.
  [[nodiscard]] bool is_independent() const;

  /// One gate per document, from its prompt or its first token, instead of one per token.
  [[nodiscard]] bool is_per_document() const;

  /// Experts are whole passes of the model, whose logits are mixed.
  [[nodiscard]] bool mixes_logits() const { return mix == "logits"; }

  [[nodiscard]] StatisticsLayout layout(std::int64_t experts) const {
    return {experts, has_threshold()};
  }

  /// Throws UsageError for combinations that mean nothing (top_k > experts, switch on dense gates,
  /// logits mixed by gates that are not of a document).
  void validate(const std::string& name, std::int64_t experts) const;

 private:
  void balance_fields(base::FieldList& list);
};

}  // namespace dfmoa::gates
