// [router.NAME]: how a gate is computed and how its use is balanced.
#pragma once

#include <cstdint>
#include <string>

#include "src/base/fields.h"

namespace dfmoa::gates {

struct RouterConfig {
  std::string kind = "softmax";
  std::int64_t top_k = 2;
  double temperature = 1.0;
  std::string scope = "token";
  std::string input = "per_block";
  std::string init = "auto";
  double init_scale = 0.02;
  double learning_rate = -1;
  std::string entropy = "dual";
  double entropy_weight = 1e-2;
  double entropy_target = 0.9;
  std::string balance = "none";
  double balance_weight = 1e-3;

  void fields(base::FieldList& list);

  /// Gates that select start from random logits (zero logits tie every choice), dense ones from 0.
  [[nodiscard]] bool starts_random() const;

  /// Mean gate at the start, the w0 of docs/math.md.
  [[nodiscard]] double mean_gate(std::int64_t experts) const;

  /// Throws UsageError for combinations that mean nothing (top_k > experts, switch on dense gates).
  void validate(const std::string& name, std::int64_t experts) const;
};

}  // namespace dfmoa::gates
