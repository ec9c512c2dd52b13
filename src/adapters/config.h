// [adapter.NAME] and [rank.NAME]: which linears get experts, how many, of what rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/fields.h"

namespace dfmoa::adapters {

struct AdapterConfig {
  std::string kind = "lora";
  std::vector<std::string> sites{"all"};
  std::string layers = "all";
  std::int64_t experts = 8;
  std::int64_t rank = 8;
  double alpha = 16;
  std::string scale = "rslora";
  bool shared_a = false;
  std::int64_t width = 0;
  std::string router;
  std::string rank_gate;

  void fields(base::FieldList& list);

  /// Bottleneck of a parallel adapter, trained tokens of a prompt adapter: `width`, else 16 and 10.
  [[nodiscard]] std::int64_t width_or_default() const;

  /// Throws UsageError for keys that do not go with the kind.
  void validate(const std::string& name) const;

  /// Factor s of docs/math.md; it stays what it is when directions die.
  /// `mean_gate` is the router's mean gate at the start (1 without a router).
  [[nodiscard]] double scale_factor(double mean_gate) const;
};

struct RankGateConfig {
  std::string kind = "hard_concrete";
  double budget = 0;
  double start = 0.1;
  double cut = 0.7;
  double strength = 0.0;
  double learning_rate = -1;

  void fields(base::FieldList& list);
};

/// Layers named by "all" or "0-15,20" in a section such as "adapter.main". Throws UsageError for an
/// empty or impossible list.
[[nodiscard]] std::vector<std::int64_t> layers_of(const std::string& section,
                                                  const std::string& text, std::int64_t num_layers);

}  // namespace dfmoa::adapters
