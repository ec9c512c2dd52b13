// Causal attention inside every document of a packed row, with or without a cache of earlier keys.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace dfmoa::model {

/// Keys and values of every layer and sequence, and gates that were fixed at the prompt's end.
struct DecodeCache {
  struct Sequence {
    at::Tensor k_LKC;  ///< (capacity, KV heads, C); `length` of them are valid
    at::Tensor v_LKC;
    std::int64_t length = 0;
  };
  std::vector<std::vector<Sequence>> layers;                           ///< [layer][sequence]
  std::map<std::pair<std::int64_t, std::string>, at::Tensor> gate_DE;  ///< (layer, router)

  DecodeCache(std::int64_t num_layers, std::size_t num_sequences)
      : layers(static_cast<std::size_t>(num_layers), std::vector<Sequence>(num_sequences)) {}
};

/// Shapes  q_THC (T, H, C), k_TKC and v_TKC (T, KV heads, C), begin: first token of every document
///         and the end -> (T, H * C). Scale 1/sqrt(C).
[[nodiscard]] at::Tensor packed_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                          const at::Tensor& v_TKC,
                                          const std::vector<std::int64_t>& begin);

/// The same for new tokens of sequences whose earlier keys and values lie in `cache`, which grows.
/// A sequence without new tokens is left as it is.
[[nodiscard]] at::Tensor cached_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                          const at::Tensor& v_TKC,
                                          const std::vector<std::int64_t>& begin,
                                          std::vector<DecodeCache::Sequence>& cache);

/// Scores, mask, softmax, product over the whole row in plain ops: the oracle.
[[nodiscard]] at::Tensor packed_attention_plain(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                                const at::Tensor& v_TKC,
                                                const std::vector<std::int64_t>& begin);

}  // namespace dfmoa::model
