// The port between a block's attention and the processes that compute its heads. Low here;
// distributed/head_parallel implements it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace dfmoa::model {

/// The attention of gated heads, each computed by the process that owns it.
class HeadExchange {
 public:
  virtual ~HeadExchange() = default;
  /// What ops::packed_attention computes, of the tokens of this process. Under autograd; every
  /// process calls it for the same layers, with any number of tokens and documents.
  /// Shapes  q_THC (T, H, C), k_TKC and v_TKC (T, KV heads, C) -> (T, H * C).
  [[nodiscard]] virtual at::Tensor attend(std::int64_t layer, const at::Tensor& q_THC,
                                          const at::Tensor& k_TKC, const at::Tensor& v_TKC,
                                          const std::vector<std::int64_t>& begin) = 0;
};

}  // namespace dfmoa::model
