#include "checkpoints/convert/init_model.h"

#include <algorithm>

#include "checkpoints/convert/byte_tokenizer.h"
#include "checkpoints/convert/model_files.h"
#include "checkpoints/convert/model_layout.h"
#include "checkpoints/convert/pending_directory.h"
#include "checkpoints/convert/weight_file.h"
#include "src/base/error.h"
#include "src/base/random.h"
#include "src/base/text.h"
#include "src/data/tokenizer.h"

namespace dfmoa::checkpoints {
namespace {

/// llama3 scaling as published stretches the positions that a model was trained on eightfold.
constexpr std::int64_t kLlama3Factor = 8;

constexpr std::int64_t kLlamaIntermediate = 192;

template <class Value>
void expect(bool holds, const std::string& what, const Value& value, const std::string& expected) {
  if (holds) return;
  throw base::UsageError(base::text("init-model: ", what, " is ", value, ", expected ", expected));
}

void set_llama(const InitModelOptions& options, ModelConfig& config) {
  config.model_type = options.qkv_bias ? "qwen2" : options.family;
  config.intermediate = options.intermediate == 0 ? kLlamaIntermediate : options.intermediate;
  config.kv_heads = options.kv_heads;
  if (config.kv_heads == 0) {
    config.kv_heads = options.heads % 2 == 0 ? options.heads / 2 : options.heads;
  }
  expect(options.heads % config.kv_heads == 0, "kv_heads", options.kv_heads,
         base::text("a divisor of heads = ", options.heads));
  if (options.head_dim == 0) {
    expect(options.hidden % options.heads == 0, "hidden", options.hidden,
           base::text("a multiple of heads = ", options.heads, ", or head_dim set"));
  }
  config.head_dim = options.head_dim == 0 ? options.hidden / options.heads : options.head_dim;
  expect(config.head_dim % 2 == 0, "head_dim", config.head_dim, "an even number");
  config.rope_theta = options.rope_theta;
  if (options.llama3_scaling) {
    expect(options.max_positions % kLlama3Factor == 0, "max_positions", options.max_positions,
           base::text("a multiple of ", kLlama3Factor, " for llama3_scaling"));
    config.rope_scaling = Llama3Rope{};
    config.rope_scaling->original_positions = options.max_positions / kLlama3Factor;
  }
  config.qkv_bias = options.qkv_bias;
}

/// What only the LLaMA family has is refused where it is asked for.
void set_gpt2(const InitModelOptions& options, ModelConfig& config) {
  config.model_type = options.family;
  config.intermediate = options.intermediate == 0 ? 4 * options.hidden : options.intermediate;
  expect(options.hidden % options.heads == 0, "hidden", options.hidden,
         base::text("a multiple of heads = ", options.heads));
  config.kv_heads = options.heads;
  config.head_dim = options.hidden / options.heads;
  expect(options.kv_heads == 0 || options.kv_heads == options.heads, "kv_heads", options.kv_heads,
         base::text("0 or heads = ", options.heads, ": in gpt2 every head has its own"));
  expect(options.head_dim == 0 || options.head_dim == config.head_dim, "head_dim", options.head_dim,
         base::text("0 or hidden / heads = ", config.head_dim, " in gpt2"));
  expect(!options.qkv_bias, "qkv_bias", "true", "false: in gpt2 every linear has its bias");
  expect(options.rope_theta == InitModelOptions{}.rope_theta, "rope_theta", options.rope_theta,
         "its default: gpt2 has no rotary angles");
  expect(!options.llama3_scaling, "llama3_scaling", "true", "false: gpt2 has no rotary angles");
  config.qkv_bias = config.o_bias = config.mlp_bias = true;
}

ModelConfig config_of(const InitModelOptions& options) {
  ModelConfig config;
  config.hidden = options.hidden;
  config.layers = options.layers;
  config.heads = options.heads;
  config.max_positions = options.max_positions;
  config.norm_eps = options.norm_eps;
  config.tied_head = options.tied;
  if (family_of(options.family) == Family::gpt2) {
    set_gpt2(options, config);
  } else {
    set_llama(options, config);
  }
  return config;
}

/// The tokenizer's files go to `folder`; their numbers to the configuration. Returns the ids that
/// end a text.
std::vector<std::int32_t> add_tokenizer(const InitModelOptions& options,
                                        const std::filesystem::path& folder, ModelConfig& config) {
  if (options.tokenizer.empty()) {
    write_byte_tokenizer(folder, options.max_positions);
  } else {
    copy_tokenizer_files(options.tokenizer, folder);
  }
  // Read where it lies: its errors name the directory that the user gave, and its end tokens may
  // stand in files of a model that are not copied.
  const auto tokenizer = data::Tokenizer::from_directory(
      options.tokenizer.empty() ? folder : std::filesystem::path(options.tokenizer));
  const auto tokens = tokenizer.vocabulary();
  expect(options.vocabulary == 0 || options.vocabulary >= tokens, "vocabulary", options.vocabulary,
         base::text("0 or at least the ", tokens, " ids of the tokenizer"));
  config.vocabulary = std::max(options.vocabulary, tokens);
  config.bos_id = tokenizer.bos();
  config.eos_id = tokenizer.eos();
  return tokenizer.stop_ids();
}

SourceTensor random_tensor(const LayoutTensor& wanted, const InitModelOptions& options) {
  SourceTensor source{wanted.name, wanted.shape, wanted.is_linear, {}};
  const auto columns = wanted.shape.back();
  if (wanted.shape.size() == 1 && wanted.name.ends_with(".weight")) {  // a norm
    source.read = [columns](std::int64_t begin, std::int64_t end, float* out) {
      std::fill_n(out, (end - begin) * columns, 1.0F);
    };
    return source;
  }
  const base::KeyedRandom random(static_cast<std::uint64_t>(options.seed),
                                 {base::key_word(wanted.name)});
  source.read = [random, columns, std = options.std](std::int64_t begin, std::int64_t end,
                                                     float* out) {
    for (auto i = begin * columns; i < end * columns; ++i) {
      *out++ = static_cast<float>(std * random.normal(static_cast<std::uint64_t>(i)));
    }
  };
  return source;
}

}  // namespace

void InitModelOptions::fields(base::FieldList& list) {
  constexpr double kMost = 1 << 30;
  list.add("family", family, "model family: llama or gpt2").one_of({"llama", "gpt2"});
  list.add("tokenizer", tokenizer,
           "directory whose tokenizer is copied; empty: 256 bytes and three special tokens");
  list.add("vocabulary", vocabulary, "rows of the embedding; 0: as many as the tokenizer has ids")
      .range(0, kMost);
  list.add("hidden", hidden, "extent of the residual stream").range(1, kMost);
  list.add("layers", layers, "number of blocks").range(1, 10000);
  list.add("heads", heads, "query heads").range(1, 10000);
  list.add("kv_heads", kv_heads,
           "key and value heads, a divisor of heads; 0: half of them, all where odd or in gpt2")
      .range(0, 10000);
  list.add("head_dim", head_dim, "extent of a head; 0: hidden / heads").range(0, kMost);
  list.add("intermediate", intermediate, "extent inside the MLP; 0: 192, in gpt2 4 hidden")
      .range(0, kMost);
  list.add("max_positions", max_positions, "longest text in tokens").range(1, kMost);
  list.add("tied", tied, "the head is the embedding");
  list.add("qkv_bias", qkv_bias, "biases on q, k and v: a Qwen2 model; gpt2 has them all");
  list.add("norm_eps", norm_eps, "epsilon of the norms").range(0, 1);
  list.add("rope_theta", rope_theta, "base of the rotary angles; gpt2 has none").range(1, 1e12);
  list.add("llama3_scaling", llama3_scaling,
           "rotary angles stretched eightfold as in Llama 3.1, to max_positions");
  list.add("seed", seed, "seed of the weights").range(0, 9e15);
  list.add("std", std, "standard deviation of the weights").range(0, 1e3);
}

void init_model(const std::filesystem::path& out, const InitModelOptions& options) {
  auto config = config_of(options);
  PendingDirectory directory(out);
  const auto stop_ids = add_tokenizer(options, directory.path(), config);
  auto json = config_json(config);
  state_element_type(json, {});
  std::vector<SourceTensor> sources;
  for (const auto& wanted : layout_of(config)) sources.push_back(random_tensor(wanted, options));

  write_json(directory.path() / "config.json", json);
  nlohmann::ordered_json generation = nlohmann::ordered_json::object();
  if (config.bos_id) generation["bos_token_id"] = *config.bos_id;
  if (stop_ids.size() == 1) generation["eos_token_id"] = stop_ids[0];
  if (stop_ids.size() > 1) generation["eos_token_id"] = stop_ids;
  write_json(directory.path() / "generation_config.json", generation);
  write_weights(directory.path() / "model.safetensors", sources, {.source = "random weights"});
  directory.commit();
}

}  // namespace dfmoa::checkpoints
