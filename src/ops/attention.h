// Causal attention: inside every document of a packed row, or of the last tokens of a sequence.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace dfmoa::ops {

/// The last L of M positions attend to what lies before them and to themselves.
/// Shapes  q_LHC (L, H, C), k_MKC and v_MKC (M, KV heads, C) -> (L, H * C). Scale 1/sqrt(C).
[[nodiscard]] at::Tensor attend(const at::Tensor& q_LHC, const at::Tensor& k_MKC,
                                const at::Tensor& v_MKC);

/// The same inside every document; `begin` holds the first token of each, and the end.
/// Shapes  q_THC (T, H, C), k_TKC and v_TKC (T, KV heads, C) -> (T, H * C).
/// Memory  on a CPU saved for backward: q, k and v as they are given (their heads not repeated),
/// the
///         output, and T * H sums; elsewhere what torch's own op saves.
[[nodiscard]] at::Tensor packed_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                          const at::Tensor& v_TKC,
                                          const std::vector<std::int64_t>& begin);

/// Scores, mask, softmax, product over the whole row in plain ops: the oracle.
[[nodiscard]] at::Tensor packed_attention_plain(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                                const at::Tensor& v_TKC,
                                                const std::vector<std::int64_t>& begin);

}  // namespace dfmoa::ops
