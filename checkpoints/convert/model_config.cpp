#include "checkpoints/convert/model_config.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

using nlohmann::ordered_json;

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
  bool flag(const char* key) const {
    if (!has(key)) return false;
    if (!config_[key].is_boolean()) refuse(key, "true or false");
    return config_[key].get<bool>();
  }

 private:
  const ordered_json& config_;
  const std::string& where_;
};

}  // namespace

std::string architecture_name(const std::string& model_type) {
  if (model_type == "llama") return "LlamaForCausalLM";
  if (model_type == "mistral") return "MistralForCausalLM";
  if (model_type == "qwen2") return "Qwen2ForCausalLM";
  throw base::ContentError(base::text("model type '", model_type,
                                      "' is not supported, expected llama, mistral or qwen2"));
}

ordered_json config_json(const ModelConfig& config) {
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
  if (config.bos_id) json["bos_token_id"] = *config.bos_id;
  if (config.eos_id) json["eos_token_id"] = *config.eos_id;
  return json;
}

ModelConfig read_extents(const ordered_json& json, const std::string& where) {
  const Extents extents(json, where);
  ModelConfig config;
  if (!extents.has("model_type") || !json["model_type"].is_string()) {
    extents.refuse("model_type", "llama, mistral or qwen2");
  }
  config.model_type = json["model_type"].get<std::string>();
  if (config.model_type != "llama" && config.model_type != "mistral" &&
      config.model_type != "qwen2") {
    extents.refuse("model_type", "llama, mistral or qwen2");
  }
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
  return config;
}

}  // namespace dfmoa::checkpoints
