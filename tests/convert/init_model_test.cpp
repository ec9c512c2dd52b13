#include "checkpoints/convert/init_model.h"

#include <cmath>
#include <cstring>

#include "src/base/error.h"
#include "src/data/tokenizer.h"
#include "src/formats/json.h"
#include "src/formats/tensor_store.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

class InitModel : public TemporaryFolder {
 protected:
  std::filesystem::path out_ = folder_ / "out";
  nlohmann::json config() const { return formats::parse_json(out_ / "config.json"); }
  std::string refusal(const InitModelOptions& options) {
    const auto sentence = sentence_of<base::UsageError>([&] { init_model(out_, options); });
    EXPECT_TRUE(nothing_left(out_)) << sentence;
    return sentence;
  }
};

TEST_F(InitModel, is_a_function_of_the_seed) {
  InitModelOptions options;
  init_model(folder_ / "a", options);
  init_model(folder_ / "b", options);
  options.seed = 2;
  init_model(folder_ / "c", options);
  const auto bytes = [&](const char* name) {
    return base::read_file(folder_ / name / "model.safetensors");
  };
  EXPECT_EQ(bytes("a"), bytes("b"));
  EXPECT_NE(bytes("a"), bytes("c"));
}

TEST_F(InitModel, draws_each_tensor_anew_with_the_wanted_deviation) {
  InitModelOptions options;
  options.std = 0.5;
  options.qkv_bias = true;
  init_model(out_, options);
  const auto store = formats::TensorStore::open(out_);
  const auto values = [&](const std::string& name) {
    const auto& view = store.get(name);
    std::vector<float> list(view.bytes.size() / 4);
    std::memcpy(list.data(), view.bytes.data(), view.bytes.size());
    return list;
  };
  const auto up = values("model.layers.0.mlp.up_proj.weight");
  double squares = 0;
  for (const float value : up) squares += double{value} * value;
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(up.size())), 0.5, 0.02);
  EXPECT_NE(up, values("model.layers.0.mlp.gate_proj.weight"));
  EXPECT_NE(up, values("model.layers.1.mlp.up_proj.weight"));
  EXPECT_EQ(values("model.norm.weight"), std::vector<float>(64, 1));
  EXPECT_NE(values("model.layers.0.self_attn.q_proj.bias")[0], 1);
}

TEST_F(InitModel, the_built_in_tokenizer_knows_every_byte) {
  init_model(out_, {});
  const auto tokenizer = data::Tokenizer::from_directory(out_);
  EXPECT_EQ(tokenizer.vocabulary(), 259);
  EXPECT_EQ(tokenizer.encode("Aé"), (std::vector<std::int32_t>{65, 0xC3, 0xA9}));
  EXPECT_EQ(config()["vocab_size"], 259);
  EXPECT_EQ(config()["bos_token_id"], tokenizer.bos().value());
  EXPECT_EQ(config()["eos_token_id"], 258);
}

TEST_F(InitModel, a_tokenizer_directory_is_copied) {
  init_model(folder_ / "a", {});
  InitModelOptions options;
  options.tokenizer = (folder_ / "a").string();
  options.vocabulary = 300;
  init_model(out_, options);
  EXPECT_EQ(base::read_file(out_ / "tokenizer.json"),
            base::read_file(folder_ / "a" / "tokenizer.json"));
  EXPECT_EQ(config()["vocab_size"], 300);
}

/// The end tokens of a model may stand in its config files alone, which are not copied.
TEST_F(InitModel, the_end_tokens_of_a_tokenizer_directory_are_kept) {
  const auto given = folder_ / "given";
  init_model(given, {});
  base::write_file(given / "tokenizer_config.json", "{}");
  base::write_file(given / "generation_config.json", R"({"eos_token_id": [258, 65]})");
  InitModelOptions options;
  options.tokenizer = given.string();
  init_model(out_, options);
  const auto tokenizer = data::Tokenizer::from_directory(out_);
  EXPECT_EQ(tokenizer.eos(), 258);
  EXPECT_EQ(tokenizer.stop_ids(), (std::vector<std::int32_t>{258, 65}));
  EXPECT_EQ(config()["eos_token_id"], 258);
}

TEST_F(InitModel, options_reach_the_configuration) {
  InitModelOptions options;
  options.tied = false;
  options.head_dim = 10;
  options.llama3_scaling = true;
  options.rope_theta = 5e5;
  init_model(out_, options);
  EXPECT_EQ(config()["model_type"], "llama");
  EXPECT_EQ(config()["head_dim"], 10);
  EXPECT_EQ(config()["tie_word_embeddings"], false);
  EXPECT_EQ(config()["rope_parameters"]["rope_type"], "llama3");
  EXPECT_EQ(config()["rope_parameters"]["original_max_position_embeddings"], 256);
  EXPECT_NE(formats::TensorStore::open(out_).find("lm_head.weight"), nullptr);
  options.qkv_bias = true;
  init_model(folder_ / "qwen2", options);
  EXPECT_EQ(formats::parse_json(folder_ / "qwen2" / "config.json")["model_type"], "qwen2");
}

TEST_F(InitModel, gpt2_has_its_own_names_and_all_biases) {
  InitModelOptions options;
  options.family = "gpt2";
  init_model(out_, options);
  EXPECT_EQ(config()["model_type"], "gpt2");
  EXPECT_EQ(config()["architectures"], nlohmann::json::array({"GPT2LMHeadModel"}));
  EXPECT_TRUE(config()["n_inner"].is_null());
  EXPECT_EQ(config()["bos_token_id"], 257);
  const auto store = formats::TensorStore::open(out_);
  EXPECT_EQ(store.names().size(), 4U + 2 * 12);
  EXPECT_EQ(store.get("transformer.h.1.mlp.c_fc.weight").shape,
            (std::vector<std::int64_t>{64, 256}));
  EXPECT_EQ(store.find("lm_head.weight"), nullptr);
  float norm = 0;
  float bias = 1;
  std::memcpy(&norm, store.get("transformer.h.0.ln_1.weight").bytes.data(), 4);
  std::memcpy(&bias, store.get("transformer.h.0.ln_1.bias").bytes.data(), 4);
  EXPECT_EQ(norm, 1);
  EXPECT_NE(bias, 0);
  EXPECT_LT(std::abs(bias), 0.2);
  options.tied = false;
  init_model(folder_ / "untied", options);
  EXPECT_NE(formats::TensorStore::open(folder_ / "untied").find("lm_head.weight"), nullptr);
}

TEST_F(InitModel, gpt2_refuses_what_it_does_not_have) {
  const auto refused = [&](auto&& set) {
    InitModelOptions options;
    options.family = "gpt2";
    set(options);
    return refusal(options);
  };
  EXPECT_TRUE(
      contains(refused([](auto& o) { o.kv_heads = 2; }), "kv_heads is 2, expected 0 or heads = 4"));
  EXPECT_TRUE(contains(refused([](auto& o) { o.head_dim = 8; }),
                       "head_dim is 8, expected 0 or hidden / heads = 16"));
  EXPECT_TRUE(contains(refused([](auto& o) { o.qkv_bias = true; }), "qkv_bias is true, expected"));
  EXPECT_TRUE(contains(refused([](auto& o) { o.rope_theta = 5e5; }), "rope_theta is 500000"));
  EXPECT_TRUE(contains(refused([](auto& o) { o.llama3_scaling = true; }),
                       "llama3_scaling is true, expected false"));
  EXPECT_TRUE(contains(refused([](auto& o) { o.heads = 5; }),
                       "hidden is 64, expected a multiple of heads = 5"));
  InitModelOptions options;
  options.family = "gpt2";
  options.kv_heads = 4;
  options.head_dim = 16;
  options.intermediate = 100;
  init_model(out_, options);
  EXPECT_EQ(config()["n_inner"], 100);
}

TEST_F(InitModel, refuses_numbers_that_contradict_each_other) {
  InitModelOptions options;
  options.kv_heads = 3;
  EXPECT_TRUE(contains(refusal(options), "kv_heads is 3, expected a divisor of heads = 4"));
  options = {};
  options.heads = 6;
  options.hidden = 48;
  init_model(folder_ / "default", options);
  EXPECT_EQ(formats::parse_json(folder_ / "default" / "config.json")["num_key_value_heads"], 3);
  options = {};
  options.hidden = 66;
  EXPECT_TRUE(contains(refusal(options), "hidden is 66, expected a multiple of heads = 4"));
  options = {};
  options.head_dim = 5;
  EXPECT_TRUE(contains(refusal(options), "head_dim is 5, expected an even number"));
  options = {};
  options.llama3_scaling = true;
  options.max_positions = 100;
  EXPECT_TRUE(contains(refusal(options), "max_positions is 100, expected a multiple of 8"));
  options = {};
  options.vocabulary = 258;
  EXPECT_TRUE(contains(refusal(options), "expected 0 or at least the 259 ids"));
  options = {};
  options.tokenizer = (folder_ / "missing").string();
  EXPECT_TRUE(contains(refusal(options), "there is no directory"));
}

TEST_F(InitModel, fields_name_the_family_and_check_ranges) {
  InitModelOptions options;
  auto fields = base::FieldList::of(options);
  fields.assign("init-model", "layers", "3");
  EXPECT_EQ(options.layers, 3);
  fields.assign("init-model", "family", "gpt2");
  EXPECT_THROW(fields.assign("init-model", "family", "gptj"), base::UsageError);
  EXPECT_THROW(fields.assign("init-model", "layers", "0"), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
