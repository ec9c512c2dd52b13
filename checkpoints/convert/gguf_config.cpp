#include "checkpoints/convert/gguf_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <set>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/gguf_dequantize.h"

namespace dfmoa::checkpoints {
namespace {

constexpr const char* kRopeFactors = "rope_freqs.weight";

std::string words_of(const formats::GgufValue& value) {
  return std::visit(
      [&](const auto& known) -> std::string {
        using Known = std::decay_t<decltype(known)>;
        if constexpr (std::is_same_v<Known, bool>) return known ? "true" : "false";
        if constexpr (std::is_arithmetic_v<Known>) return base::text(known);
        if constexpr (std::is_same_v<Known, std::string>) return "'" + known + "'";
        return formats::kind_of(value);
      },
      value);
}

/// fp32 in the file: the shortest decimal that reads back as the same fp32, as its author wrote it.
double written(double value) {
  char digits[64];
  const auto end = std::to_chars(digits, std::end(digits), static_cast<float>(value)).ptr;
  double decimal = 0;
  std::from_chars(digits, end, decimal);
  return decimal;
}

class ConfigOfGguf {
 public:
  explicit ConfigOfGguf(const formats::GgufFile& file)
      : file_(file),
        metadata_(file.metadata()),
        architecture_(metadata_.string("general.architecture")) {}

  ModelConfig read();

 private:
  [[nodiscard]] std::string key(const char* name) const { return architecture_ + "." + name; }
  [[nodiscard]] std::int64_t integer(const char* name) const {
    const auto value = metadata_.integer(key(name));
    if (value < 1) refuse(key(name), base::text(value), "a positive number");
    return value;
  }
  [[noreturn]] void refuse(const std::string& name, const std::string& value,
                           const std::string& expected) const {
    throw base::ContentError(base::text("converting ", file_.path().string(), ": ", name, " is ",
                                        value, ", expected ", expected));
  }
  void refuse_unknown_keys() const;
  void read_head_dim(ModelConfig& config) const;
  void read_vocabulary(ModelConfig& config) const;
  void read_rope(ModelConfig& config) const;
  [[nodiscard]] std::int64_t token_id(const char* name, std::int64_t vocabulary) const;

  const formats::GgufFile& file_;
  const formats::GgufMetadata& metadata_;
  std::string architecture_;
};

void ConfigOfGguf::refuse_unknown_keys() const {
  const std::set<std::string, std::less<>> known{"block_count",
                                                 "context_length",
                                                 "embedding_length",
                                                 "feed_forward_length",
                                                 "vocab_size",
                                                 "attention.head_count",
                                                 "attention.head_count_kv",
                                                 "attention.key_length",
                                                 "attention.value_length",
                                                 "attention.layer_norm_rms_epsilon",
                                                 "rope.freq_base",
                                                 "rope.dimension_count",
                                                 "rope.scaling.original_context_length"};
  // Keys that may be there as long as they say that nothing is done.
  const std::set<std::string, std::less<>> idle{"expert_count", "expert_used_count",
                                                "attention.sliding_window"};
  for (const auto& [name, value] : metadata_.entries()) {
    if (!name.starts_with(architecture_ + ".")) continue;
    const auto rest = name.substr(architecture_.size() + 1);
    if (known.contains(rest)) continue;
    if (idle.contains(rest) && metadata_.integer(name) == 0) continue;
    if (rest == "rope.scaling.type" && words_of(value) == "'none'") continue;
    refuse(name, words_of(value), "no such key: it is not supported");
  }
}

void ConfigOfGguf::read_head_dim(ModelConfig& config) const {
  if (config.heads % config.kv_heads != 0) {
    refuse(key("attention.head_count_kv"), base::text(config.kv_heads),
           base::text("a divisor of ", config.heads));
  }
  if (metadata_.has(key("attention.key_length"))) {
    config.head_dim = integer("attention.key_length");
  } else if (metadata_.has(key("rope.dimension_count"))) {
    config.head_dim = integer("rope.dimension_count");
  } else {
    config.head_dim = config.hidden / config.heads;
  }
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    if (metadata_.has(key(name)) && integer(name) != config.head_dim) {
      refuse(key(name), base::text(integer(name)), base::text(config.head_dim, " as of the keys"));
    }
  }
  if (config.head_dim % 2 != 0) {
    refuse("the extent of a head", base::text(config.head_dim), "an even number");
  }
}

void ConfigOfGguf::read_vocabulary(ModelConfig& config) const {
  const auto& embedding = file_.get("token_embd.weight");
  if (embedding.shape.size() != 2) {
    refuse("the shape of token_embd.weight", base::shape_text(embedding.shape), "two extents");
  }
  config.vocabulary = embedding.shape[0];
  if (metadata_.has(key("vocab_size")) && integer("vocab_size") != config.vocabulary) {
    refuse(key("vocab_size"), base::text(integer("vocab_size")),
           base::text(config.vocabulary, ", the rows of token_embd.weight"));
  }
}

/// llama3's scaling is kept in GGUF files as one divisor per frequency; its parameters are found
/// again by trying the published ones.
void ConfigOfGguf::read_rope(ModelConfig& config) const {
  config.rope_theta = written(metadata_.number(key("rope.freq_base")));
  if (!(config.rope_theta > 0)) {
    refuse(key("rope.freq_base"), base::text(config.rope_theta), "a positive number");
  }
  const auto* tensor = file_.find(kRopeFactors);
  if (tensor == nullptr) return;
  std::vector<float> divisors(static_cast<std::size_t>(config.head_dim / 2));
  if (tensor->shape != std::vector<std::int64_t>{config.head_dim / 2}) {
    refuse(base::text("the shape of ", kRopeFactors), base::shape_text(tensor->shape),
           base::shape_text({config.head_dim / 2}));
  }
  formats::dequantize(*tensor, 0, 1, divisors.data());
  Llama3Rope rope;
  rope.factor = *std::max_element(divisors.begin(), divisors.end());
  if (metadata_.has(key("rope.scaling.original_context_length"))) {
    rope.original_positions = integer("rope.scaling.original_context_length");
  }
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    const auto exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    const auto turns = static_cast<double>(rope.original_positions) /
                       (2 * std::numbers::pi * std::pow(config.rope_theta, exponent));
    const auto low = rope.low_frequency_factor;
    const auto smooth = std::clamp((turns - low) / (rope.high_frequency_factor - low), 0.0, 1.0);
    const auto expected = 1 / ((1 - smooth) / rope.factor + smooth);
    if (!(std::abs(divisors[i] - expected) <= 1e-4 * expected)) {
      refuse(base::text("element ", i, " of ", kRopeFactors), base::text(divisors[i]),
             base::text(expected, " of llama3 scaling by ", rope.factor, " from ",
                        rope.original_positions, " positions"));
    }
  }
  config.rope_scaling = rope;
}

std::int64_t ConfigOfGguf::token_id(const char* name, std::int64_t vocabulary) const {
  const auto id = metadata_.integer(name);
  if (id < 0 || id >= vocabulary) {
    refuse(name, base::text(id), base::text("0 to ", vocabulary - 1));
  }
  return id;
}

ModelConfig ConfigOfGguf::read() {
  if (architecture_ != "llama" && architecture_ != "qwen2") {
    refuse("general.architecture", "'" + architecture_ + "'", "llama or qwen2");
  }
  refuse_unknown_keys();
  ModelConfig config;
  config.model_type = architecture_;
  config.hidden = integer("embedding_length");
  config.intermediate = integer("feed_forward_length");
  config.layers = integer("block_count");
  config.heads = integer("attention.head_count");
  config.kv_heads = metadata_.has(key("attention.head_count_kv"))
                        ? integer("attention.head_count_kv")
                        : config.heads;
  config.max_positions = integer("context_length");
  config.norm_eps = written(metadata_.number(key("attention.layer_norm_rms_epsilon")));
  config.tied_head = file_.find("output.weight") == nullptr;
  config.qkv_bias = architecture_ == "qwen2";
  read_head_dim(config);
  read_vocabulary(config);
  read_rope(config);
  if (metadata_.has("tokenizer.ggml.bos_token_id")) {
    config.bos_id = token_id("tokenizer.ggml.bos_token_id", config.vocabulary);
  }
  if (metadata_.has("tokenizer.ggml.eos_token_id")) {
    config.eos_id = token_id("tokenizer.ggml.eos_token_id", config.vocabulary);
  }
  return config;
}

}  // namespace

ModelConfig read_gguf_config(const formats::GgufFile& file) {
  return ConfigOfGguf(file).read();
}

}  // namespace dfmoa::checkpoints
