#include "checkpoints/convert/model_layout.h"

#include <array>

#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

struct Linear {
  const char* name;
  const char* gguf_name;
  std::int64_t out;
  std::int64_t in;
  bool has_bias;
  std::int64_t rope_heads;
};

std::array<Linear, 7> linears_of(const ModelConfig& c) {
  const auto queries = c.heads * c.head_dim;
  const auto keys = c.kv_heads * c.head_dim;
  return {{{"self_attn.q_proj", "attn_q", queries, c.hidden, c.qkv_bias, c.heads},
           {"self_attn.k_proj", "attn_k", keys, c.hidden, c.qkv_bias, c.kv_heads},
           {"self_attn.v_proj", "attn_v", keys, c.hidden, c.qkv_bias, 0},
           {"self_attn.o_proj", "attn_output", c.hidden, queries, c.o_bias, 0},
           {"mlp.gate_proj", "ffn_gate", c.intermediate, c.hidden, c.mlp_bias, 0},
           {"mlp.up_proj", "ffn_up", c.intermediate, c.hidden, c.mlp_bias, 0},
           {"mlp.down_proj", "ffn_down", c.hidden, c.intermediate, c.mlp_bias, 0}}};
}

std::vector<LayoutTensor> llama_layout(const ModelConfig& config) {
  std::vector<LayoutTensor> layout;
  const auto plain = [&](std::string name, std::string gguf, std::vector<std::int64_t> shape) {
    layout.push_back({std::move(name), std::move(gguf), std::move(shape), false, 0});
  };
  plain("model.embed_tokens.weight", "token_embd.weight", {config.vocabulary, config.hidden});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const auto ours = base::text("model.layers.", layer, ".");
    const auto theirs = base::text("blk.", layer, ".");
    plain(ours + "input_layernorm.weight", theirs + "attn_norm.weight", {config.hidden});
    plain(ours + "post_attention_layernorm.weight", theirs + "ffn_norm.weight", {config.hidden});
    for (const auto& l : linears_of(config)) {
      layout.push_back({base::text(ours, l.name, ".weight"),
                        base::text(theirs, l.gguf_name, ".weight"),
                        {l.out, l.in},
                        true,
                        l.rope_heads});
      if (!l.has_bias) continue;
      layout.push_back({base::text(ours, l.name, ".bias"),
                        base::text(theirs, l.gguf_name, ".bias"),
                        {l.out},
                        false,
                        l.rope_heads});
    }
  }
  plain("model.norm.weight", "output_norm.weight", {config.hidden});
  if (!config.tied_head) {
    plain("lm_head.weight", "output.weight", {config.vocabulary, config.hidden});
  }
  return layout;
}

/// Every module has a weight and a bias but the two embeddings. Linears lie [in, out].
std::vector<LayoutTensor> gpt2_layout(const ModelConfig& config) {
  std::vector<LayoutTensor> layout;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape, bool is_linear) {
    layout.push_back({"transformer." + name, "", std::move(shape), is_linear, 0, is_linear, name});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {config.hidden}, false);
    add(name + ".bias", {config.hidden}, false);
  };
  const auto linear = [&](const std::string& name, std::int64_t in, std::int64_t out) {
    add(name + ".weight", {in, out}, true);
    add(name + ".bias", {out}, false);
  };
  add("wte.weight", {config.vocabulary, config.hidden}, false);
  add("wpe.weight", {config.max_positions, config.hidden}, false);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const auto in_layer = base::text("h.", layer, ".");
    norm(in_layer + "ln_1");
    linear(in_layer + "attn.c_attn", config.hidden, 3 * config.hidden);
    linear(in_layer + "attn.c_proj", config.hidden, config.hidden);
    norm(in_layer + "ln_2");
    linear(in_layer + "mlp.c_fc", config.hidden, config.intermediate);
    linear(in_layer + "mlp.c_proj", config.intermediate, config.hidden);
  }
  norm("ln_f");
  if (!config.tied_head) {
    layout.push_back({"lm_head.weight", "", {config.vocabulary, config.hidden}, false, 0});
  }
  return layout;
}

}  // namespace

std::vector<LayoutTensor> layout_of(const ModelConfig& config) {
  return family_of(config.model_type) == Family::gpt2 ? gpt2_layout(config) : llama_layout(config);
}

bool is_ignored_tensor(const ModelConfig& config, std::string_view name) {
  if (family_of(config.model_type) == Family::llama) return name.ends_with("rotary_emb.inv_freq");
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");  // causal masks
}

}  // namespace dfmoa::checkpoints
