// A random base model of a few thousand numbers, written as a Hugging Face directory, and a mixture
// on it whose experts and gates do something.
#pragma once

#include <torch/torch.h>

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/base/random.h"
#include "src/base/text.h"
#include "src/formats/safetensors.h"
#include "src/model/base_model.h"
#include "src/model/families.h"
#include "src/model/transformer.h"

namespace dfmoa::model {

struct TinyShape {
  std::int64_t vocabulary = 273;
  std::int64_t hidden = 16;
  std::int64_t intermediate = 24;
  std::int64_t layers = 2;
  std::int64_t heads = 4;
  std::int64_t kv_heads = 2;
  std::int64_t max_positions = 64;
  bool tied_head = false;
};

inline at::Tensor random_normal(at::IntArrayRef shape, double deviation, std::uint64_t seed,
                                std::string_view name) {
  auto tensor = at::empty(shape, at::kDouble);
  const base::KeyedRandom random(seed, {base::key_word(name)});
  auto* out = tensor.data_ptr<double>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    out[i] = deviation * random.normal(static_cast<std::uint64_t>(i));
  }
  return tensor;
}

/// Names and shapes of all tensors of such a model.
inline std::map<std::string, std::vector<std::int64_t>> tiny_tensors(const TinyShape& shape) {
  const auto& family = *find_family("llama");
  const auto key = shape.hidden / shape.heads * shape.kv_heads;
  const std::array<std::vector<std::int64_t>, 7> linears{{{shape.hidden, shape.hidden},
                                                          {key, shape.hidden},
                                                          {key, shape.hidden},
                                                          {shape.hidden, shape.hidden},
                                                          {shape.intermediate, shape.hidden},
                                                          {shape.intermediate, shape.hidden},
                                                          {shape.hidden, shape.intermediate}}};
  std::map<std::string, std::vector<std::int64_t>> tensors;
  tensors[std::string(family.embedding)] = {shape.vocabulary, shape.hidden};
  tensors[std::string(family.final_norm) + ".weight"] = {shape.hidden};
  if (!shape.tied_head) tensors[std::string(family.head)] = {shape.vocabulary, shape.hidden};
  for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
    tensors[layer_name(family.attention_norm, layer) + ".weight"] = {shape.hidden};
    tensors[layer_name(family.mlp_norm, layer) + ".weight"] = {shape.hidden};
    for (std::size_t site = 0; site < linears.size(); ++site) {
      tensors[layer_name(family.linears[site], layer) + ".weight"] = linears[site];
    }
  }
  return tensors;
}

/// config.json and model.safetensors (fp32).
inline void write_tiny_model(const std::filesystem::path& folder, const TinyShape& shape = {},
                             std::uint64_t seed = 1) {
  const nlohmann::json config = {{"model_type", "llama"},
                                 {"hidden_size", shape.hidden},
                                 {"intermediate_size", shape.intermediate},
                                 {"num_hidden_layers", shape.layers},
                                 {"num_attention_heads", shape.heads},
                                 {"num_key_value_heads", shape.kv_heads},
                                 {"vocab_size", shape.vocabulary},
                                 {"max_position_embeddings", shape.max_positions},
                                 {"tie_word_embeddings", shape.tied_head}};
  base::write_file(folder / "config.json", config.dump());
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorView> views;
  for (const auto& [name, extent] : tiny_tensors(shape)) {
    auto tensor = random_normal(extent, 0.3, seed, name);
    if (extent.size() == 1) tensor.add_(1.0);  // norms
    kept.push_back(tensor.to(at::kFloat).contiguous());
    views.push_back({name, base::DType::f32, extent,
                     std::as_bytes(std::span(kept.back().const_data_ptr<float>(),
                                             static_cast<std::size_t>(kept.back().numel())))});
  }
  formats::write_safetensors(folder / "model.safetensors", views);
}

inline std::shared_ptr<const BaseModel> load_tiny_model(const std::filesystem::path& folder,
                                                        at::ScalarType dtype) {
  ModelConfig config;
  config.path = folder.string();
  return load_base_model(config, dtype);
}

/// One adapter on all sites with a router called "main".
inline AdapterPlan tiny_plan(const std::string& scope, std::int64_t experts = 3) {
  AdapterPlan plan;
  auto& adapter = plan.adapters["mix"];
  adapter.experts = experts;
  adapter.rank = 2;
  adapter.router = "main";
  plan.routers["main"].scope = scope;
  return plan;
}

/// Gives up-projections, adapters beside linears and router weights, which start at zero, random
/// values.
inline void stir(Transformer& model, double deviation = 0.3, std::uint64_t seed = 2) {
  const at::NoGradGuard no_grad;
  for (auto& block : model.blocks()) {
    auto& parameters = block.parameters();
    for (std::size_t i = 0; i < parameters.specs().size(); ++i) {
      const auto& name = parameters.specs()[i].name;
      const bool is_side = name.starts_with("parallel/") || name.starts_with("prompt/");
      if (!name.ends_with("/b") && !name.starts_with("router/") && !is_side) continue;
      const auto& leaf = parameters.leaves()[i];
      leaf.copy_(random_normal(leaf.sizes(), deviation, seed, base::text(block.layer(), name)));
    }
  }
}

}  // namespace dfmoa::model
