// What a config.json says about a base model, checked: everything that is not implemented is
// refused by key and value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace dfmoa::model {

struct RopeConfig {
  double theta = 10000;
  std::string type = "default";  ///< default or llama3
  double factor = 1;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  double original_positions = 8192;
};

enum class Norm { rms, layer };              ///< layer: centred, and with a bias
enum class Activation { swiglu, gelu_new };  ///< swiglu: of two linears, gate and up
enum class Positions { rotary, learned };    ///< learned: a table added to the embedding

struct Architecture {
  std::string model_type;
  Norm norm = Norm::rms;
  Activation activation = Activation::swiglu;
  Positions positions = Positions::rotary;
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocabulary = 0;
  std::int64_t max_positions = 0;
  double norm_eps = 1e-5;
  bool tied_head = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  RopeConfig rope;
};

/// Reads `folder`/config.json.
/// Throws UsageError if there is none, ContentError naming the key and value it cannot honour.
[[nodiscard]] Architecture read_architecture(const std::filesystem::path& folder);

/// Inverse frequencies (C/2), in fp32 as the published implementations compute them.
[[nodiscard]] std::vector<float> inverse_frequencies(const Architecture& architecture);

}  // namespace dfmoa::model
