// What config.json says about a model, as far as writing one needs it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace dfmoa::checkpoints {

struct Llama3Rope {
  double factor = 8;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  std::int64_t original_positions = 8192;
};

/// Models of one family have the same tensors under the same names.
enum class Family { llama, gpt2 };

struct ModelConfig {
  std::string model_type;  ///< llama, mistral, qwen2, gpt2
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocabulary = 0;
  std::int64_t max_positions = 0;
  double norm_eps = 0;
  double rope_theta = 0;
  std::optional<Llama3Rope> rope_scaling;
  bool tied_head = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  std::optional<std::int64_t> bos_id;
  std::optional<std::int64_t> eos_id;
};

/// Throws ContentError for a model type that is none of ours.
[[nodiscard]] Family family_of(const std::string& model_type);

/// "LlamaForCausalLM" and so on. Throws as family_of.
[[nodiscard]] std::string architecture_name(const std::string& model_type);

/// A config.json that transformers opens, in its key order.
[[nodiscard]] nlohmann::ordered_json config_json(const ModelConfig& config);

/// The extents and biases of a config.json; rope, eps and, where no tensor has their extent,
/// positions stay unset, for they are copied with the file.
/// Throws ContentError naming file, key and value.
[[nodiscard]] ModelConfig read_extents(const nlohmann::ordered_json& config,
                                       const std::string& where);

}  // namespace dfmoa::checkpoints
