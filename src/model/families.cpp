#include "src/model/families.h"

#include <algorithm>

namespace dfmoa::model {
namespace {

FamilySpec llama_like(std::string_view name, std::vector<std::string_view> model_types,
                      bool qkv_bias) {
  FamilySpec family;
  family.name = name;
  family.model_types = std::move(model_types);
  family.embedding = "model.embed_tokens.weight";
  family.final_norm = "model.norm";
  family.head = "lm_head.weight";
  family.attention_norm = "model.layers.{}.input_layernorm";
  family.mlp_norm = "model.layers.{}.post_attention_layernorm";
  family.linears = {"model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.k_proj",
                    "model.layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.o_proj",
                    "model.layers.{}.mlp.gate_proj",    "model.layers.{}.mlp.up_proj",
                    "model.layers.{}.mlp.down_proj"};
  family.qkv_bias = qkv_bias;
  family.ignored = {"rotary_emb.inv_freq"};
  return family;
}

FamilySpec gpt2() {
  FamilySpec family;
  family.name = "gpt2";
  family.model_types = {"gpt2"};
  family.config = ConfigForm::gpt2;
  family.norm = Norm::layer;
  family.activation = Activation::gelu_new;
  family.positions = Positions::learned;
  family.embedding = "transformer.wte.weight";
  family.position_table = "transformer.wpe.weight";
  family.final_norm = "transformer.ln_f";
  family.head = "lm_head.weight";
  family.attention_norm = "transformer.h.{}.ln_1";
  family.mlp_norm = "transformer.h.{}.ln_2";
  family.linears = {"transformer.h.{}.attn.c_attn",
                    "transformer.h.{}.attn.c_attn",
                    "transformer.h.{}.attn.c_attn",
                    "transformer.h.{}.attn.c_proj",
                    "",
                    "transformer.h.{}.mlp.c_fc",
                    "transformer.h.{}.mlp.c_proj"};
  family.linears_are_transposed = true;
  family.qkv_bias = true;
  family.optional_prefix = "transformer.";
  family.ignored = {".attn.bias", ".attn.masked_bias"};
  return family;
}

const std::vector<FamilySpec>& families() {
  static const std::vector<FamilySpec> kFamilies{llama_like("llama", {"llama", "mistral"}, false),
                                                 llama_like("qwen2", {"qwen2"}, true), gpt2()};
  return kFamilies;
}

}  // namespace

const FamilySpec* find_family(std::string_view model_type) {
  for (const auto& family : families()) {
    const auto& types = family.model_types;
    if (std::find(types.begin(), types.end(), model_type) != types.end()) return &family;
  }
  return nullptr;
}

std::vector<std::string> known_model_types() {
  std::vector<std::string> names;
  for (const auto& family : families()) {
    for (const auto type : family.model_types) names.emplace_back(type);
  }
  return names;
}

FamilySpec without_prefix(FamilySpec family) {
  const auto strip = [&](std::string_view& name) {
    if (name.starts_with(family.optional_prefix)) name.remove_prefix(family.optional_prefix.size());
  };
  for (auto* name : {&family.embedding, &family.position_table, &family.final_norm, &family.head,
                     &family.attention_norm, &family.mlp_norm}) {
    strip(*name);
  }
  for (auto& name : family.linears) strip(name);
  return family;
}

std::string layer_name(std::string_view pattern, std::int64_t layer) {
  std::string name(pattern);
  const auto hole = name.find("{}");
  if (hole != std::string::npos) name.replace(hole, 2, std::to_string(layer));
  return name;
}

}  // namespace dfmoa::model
