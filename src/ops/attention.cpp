#include "src/ops/attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <limits>

namespace dfmoa::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// (L, H, C) -> (1, H, L, C); KV heads are repeated for their group of queries.
at::Tensor heads_first(const at::Tensor& x_LHC, std::int64_t heads) {
  auto x_1HLC = x_LHC.permute({1, 0, 2}).unsqueeze(0);
  const auto repeat = heads / x_LHC.size(1);
  if (repeat == 1) return x_1HLC;
  return x_1HLC.unsqueeze(2)
      .expand({1, x_LHC.size(1), repeat, x_LHC.size(0), x_LHC.size(2)})
      .reshape({1, heads, x_LHC.size(0), x_LHC.size(2)});
}

/// The gradient of heads_first: (1, H, L, C) -> (L, heads, C), summed over the copies of a head.
at::Tensor heads_last(const at::Tensor& dx_1HLC, std::int64_t heads) {
  const auto dx_HLC = dx_1HLC.squeeze(0);
  const auto repeat = dx_HLC.size(0) / heads;
  if (repeat == 1) return dx_HLC.permute({1, 0, 2});
  return dx_HLC.view({heads, repeat, dx_HLC.size(1), dx_HLC.size(2)}).sum(1).permute({1, 0, 2});
}

/// The tokens of one document.
struct Rows {
  std::int64_t first;
  std::int64_t count;
  [[nodiscard]] at::Tensor of(const at::Tensor& tensor) const {
    return tensor.narrow(0, first, count);
  }
};

std::vector<Rows> documents_of(const std::vector<std::int64_t>& begin) {
  std::vector<Rows> documents;
  for (std::size_t d = 0; d + 1 < begin.size(); ++d) {
    if (begin[d + 1] > begin[d]) documents.push_back({begin[d], begin[d + 1] - begin[d]});
  }
  return documents;
}

/// torch's flash kernels of the CPU, one call per document. Under torch's own autograd the repeated
/// heads and a second copy of the output would stay alive, and every document would add a gradient
/// of the whole row.
class PackedAttention : public torch::autograd::Function<PackedAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q_THC,
                            const at::Tensor& k_TKC, const at::Tensor& v_TKC,
                            const std::vector<std::int64_t>& begin) {
    const auto heads = q_THC.size(1);
    auto out_THC = at::empty(q_THC.sizes(), q_THC.options());
    variable_list saved(4);
    for (const auto& rows : documents_of(begin)) {
      const auto [out_1HLC, sums_1HL] = at::_scaled_dot_product_flash_attention_for_cpu(
          heads_first(rows.of(q_THC), heads), heads_first(rows.of(k_TKC), heads),
          heads_first(rows.of(v_TKC), heads), /*dropout_p=*/0.0, /*is_causal=*/true);
      rows.of(out_THC).copy_(out_1HLC.squeeze(0).permute({1, 0, 2}));
      saved.push_back(sums_1HL);
    }
    auto out_TF = out_THC.view({q_THC.size(0), heads * q_THC.size(2)});
    std::copy_n(variable_list{q_THC, k_TKC, v_TKC, out_TF}.begin(), 4, saved.begin());
    context->save_for_backward(std::move(saved));
    context->saved_data["begin"] = begin;
    return out_TF;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto& q_THC = saved[0];
    const auto& k_TKC = saved[1];
    const auto& v_TKC = saved[2];
    const auto out_THC = saved[3].view(q_THC.sizes());
    const auto dout_THC = grads[0].reshape(q_THC.sizes());
    const auto heads = q_THC.size(1);
    auto dq_THC = at::empty(q_THC.sizes(), q_THC.options());
    auto dk_TKC = at::empty(k_TKC.sizes(), k_TKC.options());
    auto dv_TKC = at::empty(v_TKC.sizes(), v_TKC.options());
    std::size_t sums = 4;
    for (const auto& rows : documents_of(context->saved_data["begin"].toIntVector())) {
      const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          heads_first(rows.of(dout_THC), heads), heads_first(rows.of(q_THC), heads),
          heads_first(rows.of(k_TKC), heads), heads_first(rows.of(v_TKC), heads),
          heads_first(rows.of(out_THC), heads), saved[sums++], /*dropout_p=*/0.0,
          /*is_causal=*/true);
      rows.of(dq_THC).copy_(heads_last(dq, heads));
      rows.of(dk_TKC).copy_(heads_last(dk, k_TKC.size(1)));
      rows.of(dv_TKC).copy_(heads_last(dv, v_TKC.size(1)));
    }
    return {dq_THC, dk_TKC, dv_TKC, at::Tensor()};
  }
};

}  // namespace

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

at::Tensor packed_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                            const at::Tensor& v_TKC, const std::vector<std::int64_t>& begin) {
  if (q_THC.is_cpu()) return PackedAttention::apply(q_THC, k_TKC, v_TKC, begin);
  std::vector<at::Tensor> outputs;
  for (const auto& rows : documents_of(begin)) {
    outputs.push_back(attend(rows.of(q_THC), rows.of(k_TKC), rows.of(v_TKC)));
  }
  if (outputs.empty()) return q_THC.reshape({0, q_THC.size(1) * q_THC.size(2)});
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs);
}

at::Tensor packed_attention_plain(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                  const at::Tensor& v_TKC, const std::vector<std::int64_t>& begin) {
  const auto tokens = q_THC.size(0);
  auto visible = at::zeros({tokens, tokens}, q_THC.options().dtype(at::kBool));
  for (const auto& rows : documents_of(begin)) {
    rows.of(visible).narrow(1, rows.first, rows.count).fill_(true);
  }
  visible = visible.tril();
  const auto repeat = q_THC.size(1) / k_TKC.size(1);
  const auto k_HTC = k_TKC.repeat_interleave(repeat, 1).permute({1, 0, 2});
  const auto v_HTC = v_TKC.repeat_interleave(repeat, 1).permute({1, 0, 2});
  const auto scale = 1.0 / std::sqrt(static_cast<double>(q_THC.size(2)));
  const auto score_HTT = at::matmul(q_THC.permute({1, 0, 2}), k_HTC.transpose(1, 2)) * scale;
  const auto hidden = -std::numeric_limits<double>::infinity();
  const auto share_HTT = at::softmax(score_HTT.masked_fill(~visible, hidden), -1);
  return at::matmul(share_HTT, v_HTC)
      .permute({1, 0, 2})
      .reshape({tokens, q_THC.size(1) * q_THC.size(2)});
}

}  // namespace dfmoa::ops
