#include "src/adapters/prompt_adapter.h"

#include <cmath>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::adapters {

at::Tensor prompt_attention(const at::Tensor& q_THC, const at::Tensor& k_PKC,
                            const at::Tensor& v_PKC, const at::Tensor& head_gate_H) {
  if (q_THC.dim() != 3 || k_PKC.dim() != 3 || k_PKC.sizes() != v_PKC.sizes() ||
      q_THC.size(2) != k_PKC.size(2) || q_THC.size(1) % k_PKC.size(1) != 0 ||
      head_gate_H.sizes() != at::IntArrayRef{q_THC.size(1)}) {
    throw base::ShapeError(base::text(
        "prompt_attention: q is ", q_THC.sizes(), ", k ", k_PKC.sizes(), ", v ", v_PKC.sizes(),
        ", gates ", head_gate_H.sizes(), ": expected (T, H, C), (P, KV heads, C) twice and (H)"));
  }
  const auto tokens = q_THC.size(0);
  const auto groups = k_PKC.size(1);
  const auto queries = q_THC.size(1) / groups;  // of a group
  const auto channels = q_THC.size(2);
  // One product per KV head over the queries of its group.
  const auto q_KRC = q_THC.view({tokens, groups, queries, channels})
                         .permute({1, 0, 2, 3})
                         .reshape({groups, tokens * queries, channels});
  const auto score_KRP =
      at::bmm(q_KRC, k_PKC.permute({1, 2, 0})).div(std::sqrt(static_cast<double>(channels)));
  const auto out_KRC = at::bmm(at::softmax(score_KRP, 2), v_PKC.permute({1, 0, 2}));
  const auto out_THC = out_KRC.view({groups, tokens, queries, channels})
                           .permute({1, 0, 2, 3})
                           .reshape({tokens, groups * queries, channels});
  return out_THC * head_gate_H.unsqueeze(1);
}

}  // namespace dfmoa::adapters
