// Attention while decoding: the keys and values of every sequence are kept.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "src/gates/documents.h"

namespace dfmoa::model {

/// What decoding carries from pass to pass: keys and values of every layer and sequence, gates that
/// were fixed at the prompt's end, and the sums of gates that read a running mean.
struct DecodeCache {
  struct Sequence {
    at::Tensor k_LKC;  ///< (capacity, KV heads, C); `length` of them are valid
    at::Tensor v_LKC;
    std::int64_t length = 0;
  };
  std::vector<std::vector<Sequence>> layers;                           ///< [layer][sequence]
  std::map<std::pair<std::int64_t, std::string>, at::Tensor> gate_DE;  ///< (layer, router)
  std::map<std::pair<std::int64_t, std::string>, gates::RunningSum> running;

  DecodeCache(std::int64_t num_layers, std::size_t num_sequences)
      : layers(static_cast<std::size_t>(num_layers), std::vector<Sequence>(num_sequences)) {}
};

/// Causal attention of new tokens (T, H, C) of sequences whose earlier keys and values lie in
/// `cache`, which grows; `begin` holds the first new token of each, and the end. -> (T, H * C).
/// A sequence without new tokens is left as it is.
[[nodiscard]] at::Tensor cached_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                          const at::Tensor& v_TKC,
                                          const std::vector<std::int64_t>& begin,
                                          std::vector<DecodeCache::Sequence>& cache);

}  // namespace dfmoa::model
