#include "src/model/families.h"

#include <algorithm>

namespace dfmoa::model {
namespace {

FamilySpec llama_like(std::string_view name, std::vector<std::string_view> model_types,
                      bool qkv_bias) {
  return {name,
          std::move(model_types),
          "model.embed_tokens.weight",
          "model.norm.weight",
          "lm_head.weight",
          "model.layers.{}.input_layernorm.weight",
          "model.layers.{}.post_attention_layernorm.weight",
          {"model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.k_proj",
           "model.layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.o_proj",
           "model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj",
           "model.layers.{}.mlp.down_proj"},
          qkv_bias,
          {"rotary_emb.inv_freq"}};
}

const std::vector<FamilySpec>& families() {
  static const std::vector<FamilySpec> kFamilies{llama_like("llama", {"llama", "mistral"}, false),
                                                 llama_like("qwen2", {"qwen2"}, true)};
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

std::string layer_name(std::string_view pattern, std::int64_t layer) {
  std::string name(pattern);
  const auto hole = name.find("{}");
  if (hole != std::string::npos) name.replace(hole, 2, std::to_string(layer));
  return name;
}

}  // namespace dfmoa::model
