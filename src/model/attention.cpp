#include "src/model/attention.h"

#include <limits>

namespace dfmoa::model {
namespace {

/// (L, H, C) -> (1, H, L, C); KV heads are repeated for their group of queries.
at::Tensor heads_first(const at::Tensor& x_LHC, std::int64_t heads) {
  auto x_1HLC = x_LHC.permute({1, 0, 2}).unsqueeze(0);
  const auto repeat = heads / x_LHC.size(1);
  if (repeat == 1) return x_1HLC;
  return x_1HLC.unsqueeze(2)
      .expand({1, x_LHC.size(1), repeat, x_LHC.size(0), x_LHC.size(2)})
      .reshape({1, heads, x_LHC.size(0), x_LHC.size(2)});
}

at::Tensor attend(const at::Tensor& q_LHC, const at::Tensor& k_MKC, const at::Tensor& v_MKC) {
  const auto heads = q_LHC.size(1);
  const auto rows = q_LHC.size(0);
  const auto past = k_MKC.size(0) - rows;
  std::optional<at::Tensor> mask;
  if (past > 0 && rows > 1) {  // row i sees the past and itself
    mask = at::ones({rows, k_MKC.size(0)}, q_LHC.options().dtype(at::kBool)).tril(past);
  }
  const auto out_1HLC = at::scaled_dot_product_attention(
      heads_first(q_LHC, heads), heads_first(k_MKC, heads), heads_first(v_MKC, heads), mask,
      /*dropout_p=*/0.0, /*is_causal=*/past == 0);
  return out_1HLC.squeeze(0).permute({1, 0, 2}).reshape({rows, heads * q_LHC.size(2)});
}

void append(DecodeCache::Sequence& cache, const at::Tensor& k_LKC, const at::Tensor& v_LKC) {
  const auto length = cache.length + k_LKC.size(0);
  const auto capacity = cache.k_LKC.defined() ? cache.k_LKC.size(0) : 0;
  if (length > capacity) {  // grow by doubling: appending stays linear
    auto shape = k_LKC.sizes().vec();
    shape[0] = std::max(length, 2 * capacity);
    auto k = at::empty(shape, k_LKC.options());
    auto v = at::empty(shape, v_LKC.options());
    if (cache.length > 0) {
      k.narrow(0, 0, cache.length).copy_(cache.k_LKC.narrow(0, 0, cache.length));
      v.narrow(0, 0, cache.length).copy_(cache.v_LKC.narrow(0, 0, cache.length));
    }
    cache.k_LKC = k;
    cache.v_LKC = v;
  }
  cache.k_LKC.narrow(0, cache.length, k_LKC.size(0)).copy_(k_LKC);
  cache.v_LKC.narrow(0, cache.length, v_LKC.size(0)).copy_(v_LKC);
  cache.length = length;
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                            const at::Tensor& v_TKC, const std::vector<std::int64_t>& begin) {
  std::vector<at::Tensor> outputs;
  for (std::size_t d = 0; d + 1 < begin.size(); ++d) {
    const auto rows = begin[d + 1] - begin[d];
    outputs.push_back(attend(q_THC.narrow(0, begin[d], rows), k_TKC.narrow(0, begin[d], rows),
                             v_TKC.narrow(0, begin[d], rows)));
  }
  if (outputs.empty()) return q_THC.reshape({0, q_THC.size(1) * q_THC.size(2)});
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs);
}

at::Tensor cached_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                            const at::Tensor& v_TKC, const std::vector<std::int64_t>& begin,
                            std::vector<DecodeCache::Sequence>& cache) {
  std::vector<at::Tensor> outputs;
  for (std::size_t d = 0; d + 1 < begin.size(); ++d) {
    const auto rows = begin[d + 1] - begin[d];
    if (rows == 0) continue;
    auto& sequence = cache[d];
    append(sequence, k_TKC.narrow(0, begin[d], rows), v_TKC.narrow(0, begin[d], rows));
    outputs.push_back(attend(q_THC.narrow(0, begin[d], rows),
                             sequence.k_LKC.narrow(0, 0, sequence.length),
                             sequence.v_LKC.narrow(0, 0, sequence.length)));
  }
  if (outputs.empty()) return q_THC.reshape({0, q_THC.size(1) * q_THC.size(2)});
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs);
}

at::Tensor packed_attention_plain(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                  const at::Tensor& v_TKC, const std::vector<std::int64_t>& begin) {
  const auto tokens = q_THC.size(0);
  auto visible = at::zeros({tokens, tokens}, q_THC.options().dtype(at::kBool));
  for (std::size_t d = 0; d + 1 < begin.size(); ++d) {
    const auto rows = begin[d + 1] - begin[d];
    visible.narrow(0, begin[d], rows).narrow(1, begin[d], rows).fill_(true);
  }
  visible = visible.tril();
  const auto repeat = q_THC.size(1) / k_TKC.size(1);
  const auto k_HTC = k_TKC.repeat_interleave(repeat, 1).permute({1, 0, 2});
  const auto v_HTC = v_TKC.repeat_interleave(repeat, 1).permute({1, 0, 2});
  const auto scale = 1.0 / std::sqrt(static_cast<double>(q_THC.size(2)));
  const auto score_HTT = at::matmul(q_THC.permute({1, 0, 2}), k_HTC.transpose(1, 2)) * scale;
  const auto hidden = -std::numeric_limits<double>::infinity();
  const auto share_HTT = at::softmax(score_HTT.masked_fill(~visible, hidden), -1);
  return at::matmul(share_HTT, v_HTC).permute({1, 0, 2}).reshape({tokens, -1});
}

}  // namespace dfmoa::model
