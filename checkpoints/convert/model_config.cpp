#include "checkpoints/convert/model_config.h"

#include <algorithm>
#include <array>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

using nlohmann::ordered_json;

struct ModelType {
  const char* name;
  const char* architecture;
  Family family;
};

constexpr std::array kModelTypes{ModelType{"llama", "LlamaForCausalLM", Family::llama},
                                 ModelType{"mistral", "MistralForCausalLM", Family::llama},
                                 ModelType{"qwen2", "Qwen2ForCausalLM", Family::llama},
                                 ModelType{"gpt2", "GPT2LMHeadModel", Family::gpt2}};
constexpr const char* kKnownTypes = "llama, mistral, qwen2 or gpt2";

/// Null for a model type that is none of ours.
const ModelType* find_type(const std::string& name) {
  const auto* found = std::find_if(kModelTypes.begin(), kModelTypes.end(),
                                   [&](const ModelType& type) { return name == type.name; });
  return found == kModelTypes.end() ? nullptr : found;
}

const ModelType& known_type(const std::string& name) {
  const auto* type = find_type(name);
  if (type != nullptr) return *type;
  throw base::ContentError(
      base::text("model type '", name, "' is not supported, expected ", kKnownTypes));
}

ordered_json rope_json(const ModelConfig& config) {
  ordered_json rope{{"rope_theta", config.rope_theta}, {"rope_type", "default"}};
  if (const auto& scaling = config.rope_scaling) {
    rope["rope_type"] = "llama3";
    rope["factor"] = scaling->factor;
    rope["low_freq_factor"] = scaling->low_frequency_factor;
    rope["high_freq_factor"] = scaling->high_frequency_factor;
    rope["original_max_position_embeddings"] = scaling->original_positions;
  }
  return rope;
}

/// The values of one config.json, with refusals that name file, key and value.
class Extents {
 public:
  Extents(const ordered_json& config, const std::string& where) : config_(config), where_(where) {}

  [[noreturn]] void refuse(const char* key, const std::string& expected) const {
    const auto value = config_.contains(key) ? config_[key].dump() : std::string("missing");
    throw base::ContentError(base::text(where_, ": ", key, " is ", value, ", expected ", expected));
  }
  bool has(const char* key) const { return config_.contains(key) && !config_[key].is_null(); }
  std::int64_t integer(const char* key) const {
    if (!has(key) || !config_[key].is_number_integer() || config_[key].get<std::int64_t>() < 1) {
      refuse(key, "a positive whole number");
    }
    return config_[key].get<std::int64_t>();
  }
  std::int64_t integer(const char* key, std::int64_t fallback) const {
    return has(key) ? integer(key) : fallback;
  }
  bool flag(const char* key, bool fallback = false) const {
    if (!has(key)) return fallback;
    if (!config_[key].is_boolean()) refuse(key, "true or false");
    return config_[key].get<bool>();
  }

 private:
  const ordered_json& config_;
  const std::string& where_;
};

ordered_json llama_json(const ModelConfig& config) {
  ordered_json json{{"architectures", {architecture_name(config.model_type)}},
                    {"model_type", config.model_type},
                    {"hidden_act", "silu"},
                    {"hidden_size", config.hidden},
                    {"intermediate_size", config.intermediate},
                    {"num_hidden_layers", config.layers},
                    {"num_attention_heads", config.heads},
                    {"num_key_value_heads", config.kv_heads},
                    {"head_dim", config.head_dim},
                    {"vocab_size", config.vocabulary},
                    {"max_position_embeddings", config.max_positions},
                    {"rms_norm_eps", config.norm_eps},
                    {"rope_theta", config.rope_theta},
                    {"rope_parameters", rope_json(config)},
                    {"tie_word_embeddings", config.tied_head}};
  if (config.rope_scaling) json["rope_scaling"] = rope_json(config);
  if (config.model_type == "qwen2") {
    json["use_sliding_window"] = false;
  } else {
    json["attention_bias"] = config.qkv_bias;
    json["mlp_bias"] = config.mlp_bias;
  }
  return json;
}

/// Nothing here was trained with dropout.
ordered_json gpt2_json(const ModelConfig& config) {
  const bool has_usual_inner = config.intermediate == 4 * config.hidden;
  return {{"architectures", {architecture_name(config.model_type)}},
          {"model_type", config.model_type},
          {"activation_function", "gelu_new"},
          {"n_embd", config.hidden},
          {"n_inner", has_usual_inner ? ordered_json() : ordered_json(config.intermediate)},
          {"n_layer", config.layers},
          {"n_head", config.heads},
          {"vocab_size", config.vocabulary},
          {"n_positions", config.max_positions},
          {"layer_norm_epsilon", config.norm_eps},
          {"attn_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"scale_attn_weights", true},
          {"scale_attn_by_inverse_layer_idx", false},
          {"reorder_and_upcast_attn", false},
          {"tie_word_embeddings", config.tied_head}};
}

void read_llama(const Extents& extents, ModelConfig& config) {
  config.hidden = extents.integer("hidden_size");
  config.intermediate = extents.integer("intermediate_size");
  config.layers = extents.integer("num_hidden_layers");
  config.heads = extents.integer("num_attention_heads");
  config.kv_heads = extents.integer("num_key_value_heads", config.heads);
  config.head_dim = extents.integer("head_dim", config.hidden / config.heads);
  config.vocabulary = extents.integer("vocab_size");
  config.tied_head = extents.flag("tie_word_embeddings");
  config.o_bias = extents.flag("attention_bias");
  config.qkv_bias = config.o_bias || config.model_type == "qwen2";
  config.mlp_bias = extents.flag("mlp_bias");
}

void read_gpt2(const Extents& extents, ModelConfig& config) {
  config.hidden = extents.integer("n_embd");
  config.intermediate = extents.integer("n_inner", 4 * config.hidden);
  config.layers = extents.integer("n_layer");
  config.heads = config.kv_heads = extents.integer("n_head");
  if (config.hidden % config.heads != 0) {
    extents.refuse("n_head", base::text("a divisor of n_embd = ", config.hidden));
  }
  config.head_dim = config.hidden / config.heads;
  config.vocabulary = extents.integer("vocab_size");
  config.max_positions = extents.integer(extents.has("n_positions") ? "n_positions" : "n_ctx");
  config.tied_head = extents.flag("tie_word_embeddings", true);
  config.qkv_bias = config.o_bias = config.mlp_bias = true;
}

}  // namespace

Family family_of(const std::string& model_type) {
  return known_type(model_type).family;
}

std::string architecture_name(const std::string& model_type) {
  return known_type(model_type).architecture;
}

ordered_json config_json(const ModelConfig& config) {
  const bool is_gpt2 = family_of(config.model_type) == Family::gpt2;
  auto json = is_gpt2 ? gpt2_json(config) : llama_json(config);
  if (config.bos_id) json["bos_token_id"] = *config.bos_id;
  if (config.eos_id) json["eos_token_id"] = *config.eos_id;
  return json;
}

ModelConfig read_extents(const ordered_json& json, const std::string& where) {
  const Extents extents(json, where);
  ModelConfig config;
  if (extents.has("model_type") && json["model_type"].is_string()) {
    config.model_type = json["model_type"].get<std::string>();
  }
  const auto* type = find_type(config.model_type);
  if (type == nullptr) extents.refuse("model_type", kKnownTypes);
  if (type->family == Family::gpt2) {
    read_gpt2(extents, config);
  } else {
    read_llama(extents, config);
  }
  return config;
}

}  // namespace dfmoa::checkpoints
