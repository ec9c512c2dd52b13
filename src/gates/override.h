// Other gates than the trained ones, in evaluation: they tell what the mixture buys.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "src/gates/config.h"

namespace dfmoa::gates {

/// A router of a model: its block's number and its name.
using RouterKey = std::pair<std::int64_t, std::string>;

/// What takes the place of every router's gates. None of the kinds changes the sum of a token's
/// gates, mean gates aside, whose sum is the mean sum.
struct Override {
  enum class Kind {
    soft,   ///< as the router gives them
    top,    ///< the largest ones alone, scaled to the sum of all; ties go to the lowest index
    mean,   ///< one gate per expert for all tokens: `mean_E`
    expert  ///< one expert alone, with the sum of all
  };
  Kind kind = Kind::soft;
  std::int64_t number = 0;  ///< of top: how many, 0 the router's top_k; of expert: which
  std::map<RouterKey, at::Tensor> mean_E;  ///< of kind mean, a row (E) for every router

  /// "soft", "topk", "topk:K", "top1", "mean" or "expert:I". Throws UsageError for anything else.
  [[nodiscard]] static Override parse(const std::string& text);

  /// Throws UsageError where `number` is none of the router's experts, or more than it has.
  void check(const std::string& router, std::int64_t experts) const;

  /// Shapes  w_TE (T, E) -> (T, E), same type and device.
  /// Throws  ShapeError for a router without a mean.
  [[nodiscard]] at::Tensor apply(const RouterKey& key, const RouterConfig& config,
                                 const at::Tensor& w_TE) const;
};

}  // namespace dfmoa::gates
