// Routers: hidden states -> gates of the experts, and the statistics of their use.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "src/gates/config.h"
#include "src/gates/documents.h"
#include "src/gates/statistics.h"

namespace dfmoa::gates {

/// The trained tensors of one router; those that its configuration has no use for are undefined.
struct RouterParameters {
  at::Tensor weight_EJ;       ///< (E, D), or (E, J) behind the J = 4 E hidden units of network mlp
  at::Tensor hidden_gate_JD;  ///< mlp: silu of this ...
  at::Tensor hidden_up_JD;    ///< ... times this
  at::Tensor threshold_1D;    ///< kinds with a threshold: its direction ...
  at::Tensor threshold_1;     ///< ... and its bias
};

/// Name, shape and place of each of them, in the order in which they are saved.
struct RouterTensor {
  std::string name;  ///< "weight", "hidden_gate", "hidden_up", "threshold", "threshold_bias"
  std::vector<std::int64_t> shape;
  at::Tensor RouterParameters::*member;
};
[[nodiscard]] std::vector<RouterTensor> router_tensors(const RouterConfig& config,
                                                       std::int64_t experts,
                                                       std::int64_t in_features);

/// Writes the start of a router into its tensors: the weight as `config.start()` says, one row per
/// expert keyed by (seed, layer, name, expert); hidden units uniform; thresholds 0.
void initialise(const RouterConfig& config, const RouterParameters& parameters, std::uint64_t seed,
                std::int64_t layer, const std::string& name);

/// Gates of one forward. Units U are tokens, or documents for a gate per document.
struct Gates {
  at::Tensor w_TE;          ///< what multiplies the experts, one row per token, in x's type
  at::Tensor w_UE;          ///< the same, one row per unit
  at::Tensor statistics_U;  ///< (layout.size()) fp64, in the graph when grad mode is on
};

/// `carried`: the running sums of sequences that are being decoded (scope running_mean).
/// Shapes  x_TD (T, D).
/// Throws  ShapeError where x and the parameters do not fit.
/// Source  docs/math.md; ties of topk go to the lowest index.
[[nodiscard]] Gates route(const RouterConfig& config, const at::Tensor& x_TD,
                          const RouterParameters& parameters, const Documents& documents,
                          RunningSum* carried = nullptr);

/// From logits onward: what `route` does after its network. U rows, E columns. Kinds with a
/// threshold read v.x + b from threshold_U1.
struct Selection {
  at::Tensor p_UE;  ///< dense probability, or membership, before selection
  at::Tensor w_UE;
  at::Tensor tau_U1;  ///< kinds with a threshold: tau, Gamma, or lambda of sparsegen
};
[[nodiscard]] Selection select(const RouterConfig& config, const at::Tensor& logit_UE,
                               const at::Tensor& threshold_U1 = {});

/// The vector of docs/math.md for these gates. Entropies of independent memberships are those of
/// their shares.
[[nodiscard]] at::Tensor statistics_of(const RouterConfig& config, const Selection& selection);

}  // namespace dfmoa::gates
