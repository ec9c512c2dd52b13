// What block.h promises about attention and the adapters beside linears.
#include "src/adapters/parallel_adapter.h"
#include "src/adapters/prompt_adapter.h"
#include "src/base/random.h"
#include "src/model/block_gating.h"
#include "src/ops/attention.h"
#include "src/ops/head_gates.h"

namespace dfmoa::model {
namespace {

/// A frozen linear under autograd.
at::Tensor frozen_linear(const std::shared_ptr<const adapters::BaseLinear>& linear,
                         const at::Tensor& x_TD) {
  return adapters::mixture_linear(x_TD, {}, {{linear, {}, 0, 1.0}})[0];
}

}  // namespace

struct Block::Masks {
  std::vector<at::Tensor> z_ZN;  // one per mask, spread over all dimensions
  at::Tensor row_T;              // row of z of each token; undefined: one row

  /// Multiplies by the mask of this name, if there is one, and by gates of heads.
  [[nodiscard]] at::Tensor apply(const AttentionGates& gates, const char* name,
                                 const at::Tensor& x_THC, const at::Tensor& gate_TH = {}) const {
    for (std::size_t m = 0; m < gates.masks.size(); ++m) {
      if (gates.masks[m].name == name)
        return gate_dimensions(x_THC, gates.masks[m], z_ZN[m], row_T, gate_TH);
    }
    return ops::head_gates(x_THC, {}, {}, gate_TH);
  }
};

Block::Masks Block::dimension_gates(const Pass& pass) const {
  const auto& gates = part(pass).adapters.attention;
  Masks masks;
  for (const auto& mask : gates.masks) {
    at::Tensor z_ZN;
    if (gates.has_logits()) {
      const auto noise = [&] {
        return adapters::gate_noise(
            {pass.key.seed, static_cast<std::uint64_t>(pass.key.step),
             static_cast<std::uint64_t>(layer_), base::key_word("dfa/" + mask.name)},
            pass.rows.documents.id, mask.dimension_id_N);
      };
      z_ZN = adapters::rank_gates(gates.kind, part(pass).parameters.leaf(mask.parameter()),
                                  pass.key.dimension_phase, noise);
    }
    masks.z_ZN.push_back(mask.spread(z_ZN, weights_.attention_norm_D.options()));
  }
  if (adapters::is_per_document(gates.kind, pass.key.dimension_phase)) {
    masks.row_T = pass.rows.documents.row_T;
  }
  return masks;
}

at::Tensor Block::attend(const at::Tensor& q_THC, const at::Tensor& k_TKC, const at::Tensor& v_TKC,
                         const Pass& pass) const {
  const auto& begin = pass.rows.documents.begin;
  const bool rotates = architecture_.positions == Positions::rotary;
  const auto q = rotates ? ops::rotate(q_THC, pass.rows.rotary) : q_THC;
  const auto k = rotates ? ops::rotate(k_TKC, pass.rows.rotary) : k_TKC;
  if (pass.cache != nullptr) {
    return cached_attention(q, k, v_TKC, begin,
                            pass.cache->layers[static_cast<std::size_t>(layer_)]);
  }
  if (pass.heads != nullptr && whole_.attention.gates_pretrained()) {
    return pass.heads->attend(layer_, q, k, v_TKC, begin);
  }
  return ops::packed_attention(q, k, v_TKC, begin);
}

at::Tensor Block::head_gates(const Gating& gating) const {
  const auto router = whole_.attention.router;
  return router < 0 ? at::Tensor() : gating.w[static_cast<std::size_t>(router)];
}

void Block::add_prompts(at::Tensor& out_THC, const at::Tensor& q_THC, const Gating& gating,
                        const Pass& pass) const {
  const auto& a = architecture_;
  const auto& [adapters, parameters] = part(pass);
  for (const auto& side : adapters.sides) {
    if (side.kind != "prompt") continue;
    const auto& tokens_PD = parameters.leaf(side.parameter("tokens"));
    const auto k_PKC =
        frozen_linear(weights_.linears[1], tokens_PD).view({-1, a.kv_heads, a.head_dim});
    const auto v_PKC =
        frozen_linear(weights_.linears[2], tokens_PD).view({-1, a.kv_heads, a.head_dim});
    const auto added = adapters::prompt_attention(q_THC, k_PKC, v_PKC,
                                                  parameters.leaf(side.parameter("head_gate")));
    const auto gate_T1 = gating.of(side);
    out_THC = out_THC + (gate_T1.defined() ? added * gate_T1.unsqueeze(2) : added);
  }
}

void Block::add_parallels(at::Tensor& mlp_TD, const at::Tensor& x_TD, const Gating& gating,
                          const Pass& pass) const {
  const auto& [adapters, parameters] = part(pass);
  for (const auto& side : adapters.sides) {
    if (side.kind != "parallel") continue;
    const auto leaf = [&](const char* name) { return parameters.leaf(side.parameter(name)); };
    const auto added = adapters::parallel_adapter(
        x_TD, {leaf("down"), leaf("down_bias"), leaf("up"), leaf("up_bias")});
    const auto gate_T1 = gating.of(side);
    mlp_TD = mlp_TD + (gate_T1.defined() ? added * gate_T1 : added);
  }
}

at::Tensor Block::attention(const std::vector<at::Tensor>& qkv, const Gating& gating,
                            const Pass& pass) const {
  const auto& a = architecture_;
  const auto q_THC = qkv[0].view({-1, a.heads, a.head_dim});
  const auto k_TKC = qkv[1].view({-1, a.kv_heads, a.head_dim});
  const auto v_TKC = qkv[2].view({-1, a.kv_heads, a.head_dim});
  const auto& adapters = part(pass).adapters;
  if (adapters.attention.empty() && adapters.sides.empty()) {
    return attend(q_THC, k_TKC, v_TKC, pass);
  }
  const auto masks = dimension_gates(pass);
  const auto& gates = adapters.attention;
  // A gate on a dimension of both queries and keys acts through their product alone.
  const auto gated_q_THC = masks.apply(gates, "qk", q_THC);
  auto out_THC = attend(gated_q_THC, k_TKC, v_TKC, pass).view({-1, a.heads, a.head_dim});
  // One on a value scales its place in the output.
  out_THC = masks.apply(gates, "v", out_THC, head_gates(gating));
  add_prompts(out_THC, q_THC, gating, pass);
  return out_THC.view({-1, a.heads * a.head_dim});
}

at::Tensor Block::literal_attention(const at::Tensor& x_TD, const Gating& gating,
                                    const Pass& pass) const {
  const auto& a = architecture_;
  const auto masks = dimension_gates(pass);
  const auto& [adapters, parameters] = part(pass);
  const auto project = [&](const char* name) {
    const auto& weight_FD = parameters.leaf(std::string("dfa/") + name + "/weight");
    const auto heads_THC = at::mm(x_TD, weight_FD.t()).view({-1, a.heads, a.head_dim});
    return masks.apply(adapters.attention, name, heads_THC);
  };
  auto out_THC =
      attend(project("q"), project("k"), project("v"), pass).view({-1, a.heads, a.head_dim});
  out_THC = ops::head_gates(out_THC, {}, {}, head_gates(gating));
  return at::addmm(parameters.leaf("dfa/o/bias"), out_THC.view({-1, a.heads * a.head_dim}),
                   parameters.leaf("dfa/o/weight").t());
}

}  // namespace dfmoa::model
