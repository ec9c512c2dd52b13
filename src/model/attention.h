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
  std::size_t num_sequences;
  /// [layer][sequence]; in a model that mixes logits all sequences once per expert, as rows stand.
  std::vector<std::vector<Sequence>> layers;
  std::map<std::pair<std::int64_t, std::string>, at::Tensor> gate_DE;  ///< (layer, router)
  std::map<std::pair<std::int64_t, std::string>, gates::RunningSum> running;

  DecodeCache(std::int64_t num_layers, std::size_t sequences)
      : num_sequences(sequences),
        layers(static_cast<std::size_t>(num_layers), std::vector<Sequence>(sequences)) {}

  /// Makes room for as many copies of every sequence.
  void hold(std::int64_t copies) {
    for (auto& layer : layers) layer.resize(static_cast<std::size_t>(copies) * num_sequences);
  }
  /// Frees what a finished sequence holds.
  void release(std::size_t sequence) {
    for (auto& layer : layers) {
      for (auto d = sequence; d < layer.size(); d += num_sequences) layer[d] = {};
    }
  }
};

/// Causal attention of new tokens (T, H, C) of sequences whose earlier keys and values lie in
/// `cache`, which grows; `begin` holds the first new token of each, and the end. -> (T, H * C).
/// A sequence without new tokens is left as it is.
[[nodiscard]] at::Tensor cached_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                          const at::Tensor& v_TKC,
                                          const std::vector<std::int64_t>& begin,
                                          std::vector<DecodeCache::Sequence>& cache);

}  // namespace dfmoa::model
