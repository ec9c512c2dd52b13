#include "checkpoints/convert/model_config.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::checkpoints {
namespace {

using formats::contains;
using formats::sentence_of;

ModelConfig sample() {
  ModelConfig config;
  config.model_type = "llama";
  config.hidden = 8;
  config.intermediate = 12;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 6;
  config.vocabulary = 100;
  config.max_positions = 64;
  config.norm_eps = 1e-5;
  config.rope_theta = 5e5;
  return config;
}

TEST(ModelConfig, what_is_written_is_read) {
  auto config = sample();
  for (const char* type : {"llama", "mistral", "qwen2"}) {
    config.model_type = type;
    config.tied_head = config.model_type == "llama";
    config.qkv_bias = config.model_type == "qwen2";
    const auto read = read_extents(config_json(config), "x");
    EXPECT_EQ(read.model_type, type);
    EXPECT_EQ(read.hidden, 8);
    EXPECT_EQ(read.intermediate, 12);
    EXPECT_EQ(read.layers, 2);
    EXPECT_EQ(read.heads, 4);
    EXPECT_EQ(read.kv_heads, 2);
    EXPECT_EQ(read.head_dim, 6);
    EXPECT_EQ(read.vocabulary, 100);
    EXPECT_EQ(read.tied_head, config.tied_head);
    EXPECT_EQ(read.qkv_bias, config.qkv_bias);
    EXPECT_FALSE(read.o_bias);
  }
}

TEST(ModelConfig, gpt2_is_written_and_read_in_its_own_words) {
  auto config = sample();
  config.model_type = "gpt2";
  config.eos_id = 7;
  auto json = config_json(config);
  EXPECT_EQ(json["architectures"][0], "GPT2LMHeadModel");
  EXPECT_EQ(json["n_inner"], 12);
  EXPECT_EQ(json["eos_token_id"], 7);
  EXPECT_FALSE(json.contains("hidden_size") || json.contains("rope_theta"));
  auto read = read_extents(json, "x");
  EXPECT_EQ(read.hidden, 8);
  EXPECT_EQ(read.intermediate, 12);
  EXPECT_EQ(read.layers, 2);
  EXPECT_EQ(read.heads, 4);
  EXPECT_EQ(read.kv_heads, 4);
  EXPECT_EQ(read.head_dim, 2);
  EXPECT_EQ(read.vocabulary, 100);
  EXPECT_EQ(read.max_positions, 64);
  EXPECT_FALSE(read.tied_head);
  EXPECT_TRUE(read.qkv_bias && read.o_bias && read.mlp_bias);
  config.intermediate = 32;
  json = config_json(config);
  EXPECT_TRUE(json["n_inner"].is_null());
  json.erase("tie_word_embeddings");
  json["n_ctx"] = 48;
  json.erase("n_positions");
  read = read_extents(json, "x");
  EXPECT_EQ(read.intermediate, 32);
  EXPECT_EQ(read.max_positions, 48);
  EXPECT_TRUE(read.tied_head);
  json["n_head"] = 3;
  EXPECT_TRUE(
      contains(sentence_of<base::ContentError>([&] { static_cast<void>(read_extents(json, "x")); }),
               "n_head is 3, expected a divisor of n_embd = 8"));
}

TEST(ModelConfig, states_the_angles_in_both_places) {
  auto config = sample();
  auto json = config_json(config);
  EXPECT_EQ(json["rope_theta"], 5e5);
  EXPECT_EQ(json["rope_parameters"]["rope_theta"], 5e5);
  EXPECT_EQ(json["rope_parameters"]["rope_type"], "default");
  EXPECT_FALSE(json.contains("rope_scaling"));
  config.rope_scaling = Llama3Rope{};
  json = config_json(config);
  EXPECT_EQ(json["rope_scaling"]["rope_type"], "llama3");
  EXPECT_EQ(json["rope_parameters"]["factor"], 8);
  EXPECT_EQ(json["rope_parameters"]["original_max_position_embeddings"], 8192);
}

TEST(ModelConfig, the_extent_of_a_head_and_key_heads_have_their_usual_defaults) {
  auto json = config_json(sample());
  json.erase("head_dim");
  json["num_key_value_heads"] = nullptr;
  const auto config = read_extents(json, "x");
  EXPECT_EQ(config.head_dim, 2);
  EXPECT_EQ(config.kv_heads, 4);
}

TEST(ModelConfig, attention_bias_is_on_all_four) {
  auto json = config_json(sample());
  json["attention_bias"] = true;
  json["mlp_bias"] = true;
  const auto config = read_extents(json, "x");
  EXPECT_TRUE(config.qkv_bias && config.o_bias && config.mlp_bias);
}

TEST(ModelConfig, refuses_by_key_and_value) {
  const auto refusal = [](const char* key, const nlohmann::ordered_json& value) {
    auto json = config_json(sample());
    json[key] = value;
    return sentence_of<base::ContentError>([&] { static_cast<void>(read_extents(json, "x")); });
  };
  EXPECT_TRUE(contains(refusal("model_type", "gptj"), "x: model_type is \"gptj\", expected llama"));
  EXPECT_TRUE(contains(refusal("model_type", 1), "x: model_type is 1, expected llama"));
  EXPECT_TRUE(contains(refusal("hidden_size", 0), "hidden_size is 0, expected a positive"));
  EXPECT_TRUE(contains(refusal("vocab_size", nullptr), "vocab_size is null, expected"));
  EXPECT_TRUE(contains(refusal("mlp_bias", 1), "mlp_bias is 1, expected true or false"));
  EXPECT_THROW(static_cast<void>(architecture_name("gptj")), base::ContentError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
