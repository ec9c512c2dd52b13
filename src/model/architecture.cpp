#include "src/model/architecture.h"

#include <cmath>
#include <numbers>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/json.h"
#include "src/model/families.h"

namespace dfmoa::model {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostLayers = 1'000;

/// One config.json with refusals that name file, key and value.
class ConfigReader {
 public:
  explicit ConfigReader(const std::filesystem::path& folder)
      : path_((folder / "config.json").string()),
        json_(formats::parse_json(folder / "config.json")) {
    if (!json_.is_object()) throw base::ContentError(path_ + ": expected a JSON object");
  }

  [[noreturn]] void refuse(const std::string& key, const json& value,
                           const std::string& expected) const {
    throw base::ContentError(base::text(path_, ": ", key, " = ", value.dump(),
                                        " is not supported, expected ", expected));
  }
  bool has(const std::string& key) const { return json_.contains(key) && !json_[key].is_null(); }
  const json& at(const std::string& key) const { return json_.at(key); }

  /// Up to `most`: of a damaged number a plan or a buffer would be made before anything else fails.
  std::int64_t integer(const std::string& key, std::int64_t fallback = -1,
                       std::int64_t most = 1'000'000'000) const {
    if (!has(key)) {
      if (fallback >= 0) return fallback;
      throw base::ContentError(path_ + ": " + key + " is missing");
    }
    const auto& value = json_[key];
    if (!value.is_number_integer() || value.get<std::int64_t>() <= 0) {
      refuse(key, value, "a positive whole number");
    }
    if (value.get<std::int64_t>() > most) refuse(key, value, base::text("at most ", most));
    return value.get<std::int64_t>();
  }
  double real(const json& where, const std::string& key, double fallback) const {
    if (!where.contains(key) || where[key].is_null()) return fallback;
    if (!where[key].is_number()) refuse(key, where[key], "a number");
    return where[key].get<double>();
  }
  double real(const std::string& key, double fallback) const { return real(json_, key, fallback); }
  bool flag(const std::string& key, bool fallback) const {
    if (!has(key)) return fallback;
    if (!json_[key].is_boolean()) refuse(key, json_[key], "true or false");
    return json_[key].get<bool>();
  }
  std::string word(const std::string& key, const std::string& fallback) const {
    if (!has(key)) return fallback;
    if (!json_[key].is_string()) refuse(key, json_[key], "a string");
    return json_[key].get<std::string>();
  }

 private:
  std::string path_;
  json json_;
};

RopeConfig read_rope(const ConfigReader& config) {
  RopeConfig rope;
  rope.theta = config.real("rope_theta", rope.theta);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {  // the newer name wins
    if (!config.has(key)) continue;
    const auto& where = config.at(key);
    if (!where.is_object()) config.refuse(key, where, "an object");
    rope.theta = config.real(where, "rope_theta", rope.theta);
    const auto type = where.contains("rope_type") ? where["rope_type"]
                      : where.contains("type")    ? where["type"]
                                                  : json("default");
    if (type != "default" && type != "llama3") {
      config.refuse(std::string(key) + ".rope_type", type, "default or llama3");
    }
    rope.type = type.get<std::string>();
    rope.factor = config.real(where, "factor", 1);
    rope.low_frequency_factor = config.real(where, "low_freq_factor", 1);
    rope.high_frequency_factor = config.real(where, "high_freq_factor", 4);
    rope.original_positions = config.real(where, "original_max_position_embeddings", 8192);
  }
  return rope;
}

void refuse_unless(const ConfigReader& config, const std::string& key, bool expected) {
  if (config.flag(key, expected) != expected) {
    config.refuse(key, !expected, expected ? "true" : "false");
  }
}

void refuse_what_is_missing(const ConfigReader& config) {
  const auto activation = config.word("hidden_act", "silu");
  if (activation != "silu") config.refuse("hidden_act", activation, "silu");
  const bool sliding = config.has("sliding_window") && config.flag("use_sliding_window", true);
  if (sliding) config.refuse("sliding_window", config.at("sliding_window"), "no sliding window");
  const auto partial = config.real("partial_rotary_factor", 1.0);
  if (partial != 1.0) config.refuse("partial_rotary_factor", partial, "1");
  refuse_unless(config, "use_qk_norm", false);
  if (config.integer("pretraining_tp", 1) != 1) {
    config.refuse("pretraining_tp", config.at("pretraining_tp"), "1");
  }
}

void read_llama(const ConfigReader& config, const FamilySpec& family, Architecture& a) {
  refuse_what_is_missing(config);
  a.hidden = config.integer("hidden_size");
  a.intermediate = config.integer("intermediate_size");
  a.layers = config.integer("num_hidden_layers", -1, kMostLayers);
  a.heads = config.integer("num_attention_heads");
  a.kv_heads = config.integer("num_key_value_heads", a.heads);
  if (!config.has("head_dim") && a.hidden % a.heads != 0) {
    config.refuse("num_attention_heads", a.heads,
                  base::text("a divisor of hidden_size = ", a.hidden, ", or a head_dim"));
  }
  a.head_dim = config.integer("head_dim", a.hidden / a.heads);
  a.vocabulary = config.integer("vocab_size");
  a.max_positions = config.integer("max_position_embeddings", 2048);
  a.norm_eps = config.real("rms_norm_eps", 1e-6);
  a.tied_head = config.flag("tie_word_embeddings", false);
  const bool attention_bias = config.flag("attention_bias", false);
  a.qkv_bias = family.qkv_bias || attention_bias;
  a.o_bias = attention_bias;
  a.mlp_bias = config.flag("mlp_bias", false);
  a.rope = read_rope(config);
  if (a.heads % a.kv_heads != 0) {
    config.refuse("num_key_value_heads", a.kv_heads, base::text("a divisor of ", a.heads));
  }
  if (a.head_dim % 2 != 0) config.refuse("head_dim", a.head_dim, "an even number");
}

/// Dropout is not read: it acts in training only, and the base model is not trained.
void read_gpt2(const ConfigReader& config, Architecture& a) {
  const auto activation = config.word("activation_function", "gelu_new");
  if (activation != "gelu_new" && activation != "gelu_pytorch_tanh") {
    config.refuse("activation_function", activation, "gelu_new");
  }
  refuse_unless(config, "scale_attn_weights", true);
  refuse_unless(config, "scale_attn_by_inverse_layer_idx", false);
  refuse_unless(config, "reorder_and_upcast_attn", false);
  refuse_unless(config, "add_cross_attention", false);
  a.hidden = config.integer("n_embd");
  a.intermediate = config.integer("n_inner", 4 * a.hidden);
  a.layers = config.integer("n_layer", -1, kMostLayers);
  a.heads = config.integer("n_head");
  if (a.hidden % a.heads != 0) {
    config.refuse("n_head", a.heads, base::text("a divisor of n_embd = ", a.hidden));
  }
  a.kv_heads = a.heads;
  a.head_dim = a.hidden / a.heads;
  a.vocabulary = config.integer("vocab_size");
  a.max_positions = config.integer(config.has("n_positions") ? "n_positions" : "n_ctx");
  a.norm_eps = config.real("layer_norm_epsilon", 1e-5);
  a.tied_head = config.flag("tie_word_embeddings", true);
  a.qkv_bias = a.o_bias = a.mlp_bias = true;
}

}  // namespace

Architecture read_architecture(const std::filesystem::path& folder) {
  const ConfigReader config(folder);
  Architecture a;
  a.model_type = config.word("model_type", "");
  const auto* family = find_family(a.model_type);
  if (family == nullptr) {
    config.refuse("model_type", a.model_type, "one of " + base::join(known_model_types(), ", "));
  }
  a.norm = family->norm;
  a.activation = family->activation;
  a.positions = family->positions;
  if (family->config == ConfigForm::gpt2) {
    read_gpt2(config, a);
  } else {
    read_llama(config, *family, a);
  }
  return a;
}

std::vector<float> inverse_frequencies(const Architecture& architecture) {
  const auto& rope = architecture.rope;
  std::vector<float> frequencies;
  for (std::int64_t c = 0; c < architecture.head_dim; c += 2) {
    const float exponent = static_cast<float>(c) / static_cast<float>(architecture.head_dim);
    frequencies.push_back(1.0F / std::pow(static_cast<float>(rope.theta), exponent));
  }
  if (rope.type != "llama3") return frequencies;
  // Llama 3.1: long wavelengths are stretched, short ones kept, those between are blended.
  const auto factor = static_cast<float>(rope.factor);
  const auto low = static_cast<float>(rope.low_frequency_factor);
  const auto high = static_cast<float>(rope.high_frequency_factor);
  const auto original = static_cast<float>(rope.original_positions);
  for (auto& frequency : frequencies) {
    // Reciprocals and products, not quotients: the rounding of the published implementations.
    const float wavelength = (1.0F / frequency) * (2.0F * std::numbers::pi_v<float>);
    if (wavelength > original / low) {
      frequency /= factor;
    } else if (wavelength >= original / high) {
      const float smooth = ((1.0F / wavelength) * original - low) / (high - low);
      frequency = (1.0F - smooth) * frequency / factor + smooth * frequency;
    }
  }
  return frequencies;
}

}  // namespace dfmoa::model
