// Rank gates: the only place where rank becomes differentiable.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dfmoa::adapters {

/// Constants of the hard-concrete distribution, and the start that makes evaluation z exactly 1.
inline constexpr double kStretchLow = -0.1;
inline constexpr double kStretchHigh = 1.1;
inline constexpr double kConcreteBeta = 2.0 / 3.0;
inline constexpr double kLogitStart = 2.4;

/// How rank gates act in a pass.
enum class RankPhase {
  held,    ///< exactly 1, before `rank.start`
  noisy,   ///< hard-concrete noise, one mask per document
  settled  ///< evaluation form
};

/// Whether a kind trains a number per direction; the others (norm, svd) only cut.
[[nodiscard]] bool has_trained_gates(const std::string& kind);
/// What gates of a kind multiply by, one row for all tokens or, under noise, one per document;
/// undefined where every gate is 1. `noise` is asked for u_ZN where it is needed.
/// Shapes  logit_N (N), the trained numbers of the kind -> (1, N), (Z, N) or undefined.
[[nodiscard]] at::Tensor rank_gates(const std::string& kind, const at::Tensor& logit_N,
                                    RankPhase phase, const std::function<at::Tensor()>& noise);
/// Whether `rank_gates` gives a row per document.
[[nodiscard]] bool is_per_document(const std::string& kind, RankPhase phase);
/// The evaluation form alone: (N).
[[nodiscard]] at::Tensor settled_gates(const std::string& kind, const at::Tensor& logit_N);
/// Where the trained numbers of a kind start.
[[nodiscard]] double gate_start(const std::string& kind);
/// The proximal step of a free gate after its optimiser's: sign(z) max(|z| - threshold, 0), in
/// place; the threshold is one number where the gates are.
/// Source   SoRA, arXiv:2311.11696, with the true operator.
void soft_threshold(const at::Tensor& z_N, const at::Tensor& threshold);

/// Evaluation form clamp(sigmoid(m) (zeta - gamma) + gamma, 0, 1).
/// Shapes  logit_N (N) -> z_N (N).
/// Source  Louizos et al. 2018, arXiv:1712.01312, eq. 10-13.
[[nodiscard]] at::Tensor hard_concrete(const at::Tensor& logit_N);

/// Training form with uniform noise u in (0, 1); one mask per document.
/// Shapes  logit_N (N), u_ZN (Z, N) -> (Z, N).
/// Differs from the source: the noise is keyed by document and direction, not drawn per step.
[[nodiscard]] at::Tensor hard_concrete_noisy(const at::Tensor& logit_N, const at::Tensor& u_ZN);

/// P(z > 0) = sigmoid(m - beta log(-gamma / zeta)).
[[nodiscard]] at::Tensor alive_probability(const at::Tensor& logit_N);

/// What names the noise of one (document, direction).
struct NoiseKey {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::uint64_t layer = 0;
  std::uint64_t site = 0;  ///< base::key_word of the site's name
};

/// u_ZN (documents, directions) fp64: equal for every cut of the work, and for a shrunk bank.
[[nodiscard]] at::Tensor gate_noise(const NoiseKey& key, const std::vector<std::int64_t>& documents,
                                    const std::vector<std::int64_t>& direction_ids);

/// Entropy rank exp(-sum p log p), p = sigma^2 / sum sigma^2, of b^T diag(z) a, without forming the
/// dense product; 0 where the product is 0.
/// Shapes  a_RD (R, D), b_RF (R, F), z_R (R) or undefined.
[[nodiscard]] double spectral_rank(const at::Tensor& a_RD, const at::Tensor& b_RF,
                                   const at::Tensor& z_R);

}  // namespace dfmoa::adapters
