// What the loader refuses, by key and value or by tensor name.
#include "src/model/base_model.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "checkpoints/convert/convert.h"
#include "src/base/error.h"
#include "src/formats/json.h"
#include "src/formats/tensor_store.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::model {
namespace {

using formats::contains;
using formats::sentence_of;

class BaseModelLoading : public formats::TemporaryFolder {
 protected:
  void SetUp() override {
    formats::TemporaryFolder::SetUp();
    ::setenv("XDG_CACHE_HOME", (folder_ / "cache").c_str(), 1);
    write_tiny_model(folder_);
  }
  /// As if nothing had been written for a while: the hash of such files is kept.
  void age() {
    for (const char* name : {"config.json", "model.safetensors"}) {
      const auto path = folder_ / name;
      last_write_time(path, last_write_time(path) - std::chrono::hours(1));
    }
  }
  std::string refusal() {
    return sentence_of<base::ContentError>([&] { (void)load_tiny_model(folder_, at::kDouble); });
  }
  void set(const std::string& key, const nlohmann::json& value) {
    auto config = formats::parse_json(folder_ / "config.json");
    config[key] = value;
    base::write_file(folder_ / "config.json", config.dump());
  }
  /// Rewrites the weights, changed by `edit(name, tensor)`; an empty name drops the tensor.
  template <class Edit>
  void rewrite(Edit&& edit) {
    const auto store = formats::TensorStore::open(folder_);
    std::vector<std::string> data;
    std::vector<formats::TensorView> views;
    for (const auto& name : store.names()) {
      auto view = store.get(name);
      data.emplace_back(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
      edit(view.name, data.back());
      views.push_back(view);
    }
    std::vector<formats::TensorView> kept;
    for (std::size_t i = 0; i < views.size(); ++i) {
      views[i].bytes = std::as_bytes(std::span(data[i]));
      if (!views[i].name.empty()) kept.push_back(views[i]);
    }
    formats::write_safetensors(folder_ / "new.safetensors", kept);
    std::filesystem::rename(folder_ / "new.safetensors", folder_ / "model.safetensors");
  }
};

TEST_F(BaseModelLoading, unsupported_features_are_refused_by_key_and_value) {
  const std::vector<std::pair<std::string, nlohmann::json>> cases{
      {"hidden_act", "gelu"},   {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}}},
      {"sliding_window", 4096}, {"partial_rotary_factor", 0.5},
      {"model_type", "mamba"},  {"num_key_value_heads", 3},
      {"hidden_size", 18}};
  for (const auto& [key, value] : cases) {
    write_tiny_model(folder_);
    set(key, value);
    EXPECT_TRUE(contains(refusal(), key)) << key;
  }
}

/// A plan would be made of such a number, layer by layer, before a missing tensor stops it.
TEST_F(BaseModelLoading, numbers_that_no_model_has_are_refused) {
  for (const auto& [key, most] :
       {std::pair("num_hidden_layers", 1'000), std::pair("vocab_size", 1'000'000'000)}) {
    write_tiny_model(folder_);
    set(key, std::int64_t{most} + 1);
    const auto sentence = refusal();
    EXPECT_TRUE(contains(sentence, base::text(key, " = ", most + 1))) << sentence;
    EXPECT_TRUE(contains(sentence, base::text("expected at most ", most))) << sentence;
  }
}

TEST_F(BaseModelLoading, missing_unused_and_misshapen_tensors_are_named) {
  const std::string victim = "model.layers.1.mlp.up_proj.weight";
  rewrite([&](std::string& name, std::string&) { name = name == victim ? "" : name; });
  EXPECT_TRUE(contains(refusal(), victim));
  write_tiny_model(folder_);
  rewrite([&](std::string& name, std::string&) { name = name == victim ? victim + "x" : name; });
  EXPECT_TRUE(contains(refusal(), victim));
  write_tiny_model(folder_);
  set("intermediate_size", 25);
  EXPECT_TRUE(contains(refusal(), "expected (25, 16)"));
  write_tiny_model(folder_);
  set("tie_word_embeddings", true);  // its copy of the head is then ignored
  EXPECT_NO_THROW((void)load_tiny_model(folder_, at::kFloat));
}

TEST_F(BaseModelLoading, nan_weights_are_refused_dense_and_quantised) {
  const std::string victim = "model.layers.0.self_attn.q_proj.weight";
  rewrite([&](std::string& name, std::string& bytes) {
    const auto nan = std::numeric_limits<float>::quiet_NaN();
    if (name == victim) std::memcpy(bytes.data() + 8, &nan, sizeof(nan));
  });
  EXPECT_TRUE(contains(refusal(), victim));
  ModelConfig config;
  config.path = folder_.string();
  config.quantize = "nf4";
  EXPECT_TRUE(contains(
      sentence_of<base::ContentError>([&] { (void)load_base_model(config, at::kFloat); }), victim));
}

TEST_F(BaseModelLoading, a_second_start_does_not_read_the_tensors_for_their_hash_again) {
  age();
  for (const auto dtype : {at::kFloat, at::kDouble}) {  // two hashes, each kept for itself
    const auto first = load_tiny_model(folder_, dtype);
    EXPECT_EQ(first->hashed_bytes, first->bytes);
    const auto second = load_tiny_model(folder_, dtype);
    EXPECT_EQ(second->hashed_bytes, 0);
    EXPECT_EQ(second->hash, first->hash);
    EXPECT_EQ(second->bytes, first->bytes);
  }
}

TEST_F(BaseModelLoading, touched_or_changed_files_are_hashed_again) {
  age();
  const auto first = load_tiny_model(folder_, at::kFloat);
  age();
  const auto touched = load_tiny_model(folder_, at::kFloat);
  EXPECT_EQ(touched->hashed_bytes, touched->bytes);
  EXPECT_EQ(touched->hash, first->hash);
  write_tiny_model(folder_, {}, 2);
  const auto changed = load_tiny_model(folder_, at::kFloat);
  EXPECT_EQ(changed->hashed_bytes, changed->bytes);
  EXPECT_NE(changed->hash, first->hash);
}

TEST_F(BaseModelLoading, no_hash_is_kept_of_a_model_that_is_refused) {
  rewrite([&](std::string& name, std::string& bytes) {
    const auto nan = std::numeric_limits<float>::quiet_NaN();
    if (name == "model.norm.weight") std::memcpy(bytes.data(), &nan, sizeof(nan));
  });
  age();
  for (int start = 0; start < 2; ++start) EXPECT_TRUE(contains(refusal(), "model.norm.weight"));
}

TEST_F(BaseModelLoading, parameters_are_counted_whatever_they_are_stored_in) {
  std::int64_t numbers = 0;
  for (const auto& [name, shape] : tiny_tensors({})) numbers += base::count_of(shape);
  EXPECT_EQ(num_parameters(read_architecture(folder_)), numbers);
  set("tie_word_embeddings", true);
  EXPECT_EQ(num_parameters(read_architecture(folder_)), numbers - 273 * 16);
}

TEST_F(BaseModelLoading, quantised_model_is_near_the_dense_one_and_has_another_hash) {
  ModelConfig config;
  config.path = folder_.string();
  const auto dense = load_base_model(config, at::kFloat);
  config.quantize = "nf4";
  const auto nf4 = load_base_model(config, at::kFloat);
  EXPECT_NE(dense->hash, nf4->hash);
  const auto x = at::eye(16, at::kFloat);
  const auto exact = dense->layers[0].linears[0]->forward(x);
  const auto rounded = nf4->layers[0].linears[0]->forward(x);
  const double error = ((rounded - exact).norm() / exact.norm()).item<double>();
  EXPECT_GT(error, 0.01);
  EXPECT_LT(error, 0.15);
}

TEST_F(BaseModelLoading, stored_nf4_equals_nf4_made_while_loading) {
  ModelConfig config;
  config.path = folder_.string();
  config.quantize = "nf4";
  const auto made = load_base_model(config, at::kFloat);
  const auto stored = folder_ / "stored";
  checkpoints::ConvertOptions options;
  options.nf4 = true;
  checkpoints::convert(folder_, stored, options);
  config.quantize = "auto";
  config.path = stored.string();
  EXPECT_EQ(load_base_model(config, at::kFloat)->hash, made->hash);
  options.double_quant = true;
  checkpoints::convert(folder_, folder_ / "double", options);
  config.path = (folder_ / "double").string();
  const auto twice = load_base_model(config, at::kFloat);
  const auto x = at::eye(16, at::kFloat);
  const auto exact = made->layers[0].linears[4]->forward(x);
  const auto rounded = twice->layers[0].linears[4]->forward(x);
  EXPECT_FALSE(at::equal(rounded, exact));
  EXPECT_LT(((rounded - exact).norm() / exact.norm()).item<double>(), 0.02);
}

TEST_F(BaseModelLoading, damaged_quantisation_records_are_named) {
  checkpoints::ConvertOptions options;
  options.nf4 = true;
  const auto pristine = folder_ / "pristine";
  checkpoints::convert(folder_, pristine, options);
  const std::string victim = "model.layers.0.mlp.up_proj.weight";
  const auto damage = [&](const std::string& ending, auto&& edit) {
    std::filesystem::copy_file(pristine / "config.json", folder_ / "config.json",
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::copy_file(pristine / "model.safetensors", folder_ / "model.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    rewrite([&](std::string& name, std::string& bytes) {
      if (name == victim + ending) edit(name, bytes);
    });
    return refusal();
  };
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(
      damage(".absmax", [&](auto&, auto& bytes) { std::memcpy(bytes.data(), &nan, sizeof(nan)); }),
      victim + ".absmax"));
  EXPECT_TRUE(contains(damage(".quant_map", [](auto&, auto& bytes) { bytes[3] ^= 1; }),
                       victim + ".quant_map"));
  EXPECT_TRUE(
      contains(damage(".absmax", [](auto& name, auto&) { name.clear(); }), victim + ".absmax"));
  EXPECT_TRUE(contains(damage(".quant_state.bitsandbytes__nf4",
                              [](auto&, auto& bytes) {
                                const auto at = bytes.find("nf4");
                                bytes.replace(at, 3, "fp4");
                              }),
                       victim));
}

/// Scales that do not fit are refused before anything is read by them.
TEST_F(BaseModelLoading, damaged_nested_scales_are_named) {
  checkpoints::ConvertOptions options;
  options.nf4 = true;
  options.double_quant = true;
  const auto pristine = folder_ / "nested";
  checkpoints::convert(folder_, pristine, options);
  const std::string victim = "model.layers.0.mlp.up_proj.weight";
  const std::string block = "\"nested_blocksize\":256";
  for (const std::string wrong : {"\"nested_blocksize\":  0", "\"nested_blocksize\":  1",
                                  "\"nested_blocksize\": -1", "\"nested_blocksize\":\"a\""}) {
    for (const auto* name : {"config.json", "model.safetensors"}) {
      std::filesystem::copy_file(pristine / name, folder_ / name,
                                 std::filesystem::copy_options::overwrite_existing);
    }
    bool found = false;
    rewrite([&](std::string& name, std::string& bytes) {
      if (name != victim + ".quant_state.bitsandbytes__nf4") return;
      const auto at = bytes.find(block);
      found = at != std::string::npos;
      if (found) bytes.replace(at, block.size(), wrong);
    });
    ASSERT_TRUE(found);
    const auto sentence = refusal();
    EXPECT_TRUE(contains(sentence, victim)) << wrong << ": " << sentence;
  }
}

TEST_F(BaseModelLoading, llama3_scaling_keeps_short_and_stretches_long_wavelengths) {
  Architecture a;
  a.head_dim = 64;
  a.rope.theta = 500000;
  const auto plain = inverse_frequencies(a);
  a.rope.type = "llama3";
  a.rope.factor = 8;
  const auto scaled = inverse_frequencies(a);
  EXPECT_EQ(scaled.front(), plain.front());
  EXPECT_EQ(scaled.back(), plain.back() / 8.0F);
}

}  // namespace
}  // namespace dfmoa::model
