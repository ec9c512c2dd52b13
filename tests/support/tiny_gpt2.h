// A random GPT-2 of a few thousand numbers, written as a Hugging Face directory with the names and
// orientations that published files have.
#pragma once

#include "tests/support/tiny_model.h"

namespace dfmoa::model {

struct TinyGpt2 {
  std::int64_t heads = 9;
  std::int64_t hidden = 36;  ///< its square is no multiple of 64: slices cut blocks of NF4
  std::int64_t intermediate = 50;
  std::int64_t layers = 2;
  std::int64_t vocabulary = 273;
  std::int64_t positions = 64;
  bool tied_head = true;
  bool is_old = false;  ///< without the prefix of names, and with masks
};

/// Names and shapes of all tensors; linears lie (in, out).
inline std::map<std::string, std::vector<std::int64_t>> tiny_gpt2_tensors(const TinyGpt2& shape) {
  std::map<std::string, std::vector<std::int64_t>> tensors;
  const std::string prefix = shape.is_old ? "" : "transformer.";
  const auto add = [&](const std::string& name, std::int64_t in, std::int64_t out) {
    tensors[prefix + name + ".weight"] = in == 0 ? std::vector{out} : std::vector{in, out};
    tensors[prefix + name + ".bias"] = {out};
  };
  tensors[prefix + "wte.weight"] = {shape.vocabulary, shape.hidden};
  tensors[prefix + "wpe.weight"] = {shape.positions, shape.hidden};
  for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
    const auto in_layer = base::text("h.", layer, ".");
    add(in_layer + "ln_1", 0, shape.hidden);
    add(in_layer + "attn.c_attn", shape.hidden, 3 * shape.hidden);
    add(in_layer + "attn.c_proj", shape.hidden, shape.hidden);
    add(in_layer + "ln_2", 0, shape.hidden);
    add(in_layer + "mlp.c_fc", shape.hidden, shape.intermediate);
    add(in_layer + "mlp.c_proj", shape.intermediate, shape.hidden);
    if (!shape.is_old) continue;
    tensors[in_layer + "attn.bias"] = {1, 1, shape.positions, shape.positions};
    tensors[in_layer + "attn.masked_bias"] = {1};
  }
  add("ln_f", 0, shape.hidden);
  if (!shape.tied_head) tensors["lm_head.weight"] = {shape.vocabulary, shape.hidden};
  return tensors;
}

/// fp32 values that do not depend on the prefix of the names.
inline at::Tensor tiny_gpt2_tensor(const std::string& name, at::IntArrayRef shape) {
  const std::string prefix = "transformer.";
  const auto bare = name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  auto tensor = random_normal(shape, 0.3, 1, bare);
  const bool is_norm = bare.find("ln_") != std::string::npos && bare.ends_with(".weight");
  if (is_norm) tensor.add_(1.0);
  return tensor.to(at::kFloat).contiguous();
}

/// config.json and model.safetensors (fp32).
inline void write_tiny_gpt2(const std::filesystem::path& folder, const TinyGpt2& shape = {}) {
  const nlohmann::json config = {{"model_type", "gpt2"},
                                 {"n_embd", shape.hidden},
                                 {"n_inner", shape.intermediate},
                                 {"n_layer", shape.layers},
                                 {"n_head", shape.heads},
                                 {"n_positions", shape.positions},
                                 {"vocab_size", shape.vocabulary},
                                 {"layer_norm_epsilon", 1e-5},
                                 {"tie_word_embeddings", shape.tied_head}};
  base::write_file(folder / "config.json", config.dump());
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorView> views;
  for (const auto& [name, extent] : tiny_gpt2_tensors(shape)) {
    kept.push_back(tiny_gpt2_tensor(name, extent));
    views.push_back({name, base::DType::f32, extent,
                     std::as_bytes(std::span(kept.back().const_data_ptr<float>(),
                                             static_cast<std::size_t>(kept.back().numel())))});
  }
  formats::write_safetensors(folder / "model.safetensors", views);
}

}  // namespace dfmoa::model
