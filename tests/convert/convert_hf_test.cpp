#include <cstring>

#include "checkpoints/convert/convert.h"
#include "checkpoints/convert/init_model.h"
#include "src/base/error.h"
#include "src/formats/json.h"
#include "src/formats/tensor_store.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

class ConvertHf : public TemporaryFolder {
 protected:
  std::filesystem::path source_ = folder_ / "source";
  std::filesystem::path out_ = folder_ / "out";

  void SetUp() override {
    TemporaryFolder::SetUp();
    InitModelOptions options;
    options.hidden = 8;
    options.intermediate = 12;
    options.layers = 1;
    init_model(source_, options);
  }
  /// The source's tensors, changed by `edit`, take its place.
  template <class Edit>
  void rewrite(Edit&& edit) {
    const auto store = formats::TensorStore::open(source_);
    std::vector<formats::TensorView> views;
    for (const auto& name : store.names()) views.push_back(store.get(name));
    edit(views);
    formats::write_safetensors(source_ / "model.safetensors", views);
  }
  std::string refusal() {
    const auto sentence = sentence_of<base::ContentError>([&] { convert_hf(source_, out_, {}); });
    EXPECT_TRUE(nothing_left(out_)) << sentence;
    return sentence;
  }
  nlohmann::json config() const { return formats::parse_json(out_ / "config.json"); }
};

TEST_F(ConvertHf, copies_the_tensors_and_files_bit_for_bit) {
  formats::write_damaged(source_ / "special_tokens_map.json", "{}");
  convert_hf(source_, out_, {});
  const auto before = formats::TensorStore::open(source_);
  const auto after = formats::TensorStore::open(out_);
  EXPECT_EQ(after.names(), before.names());
  for (const auto& name : before.names()) {
    const auto& a = before.get(name);
    const auto& b = after.get(name);
    ASSERT_EQ(a.bytes.size(), b.bytes.size()) << name;
    EXPECT_EQ(std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()), 0) << name;
  }
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "generation_config.json"}) {
    EXPECT_EQ(base::read_file(source_ / name), base::read_file(out_ / name)) << name;
  }
}

TEST_F(ConvertHf, bf16_halves_the_weights_and_is_stated) {
  ConvertOptions options;
  options.dtype = "bf16";
  convert_hf(source_, out_, options);
  const auto store = formats::TensorStore::open(out_);
  EXPECT_EQ(store.get("model.norm.weight").dtype, base::DType::bf16);
  EXPECT_EQ(config()["torch_dtype"], "bfloat16");
  options.dtype = "f32";
  convert_hf(out_, folder_ / "back", options);
  EXPECT_EQ(formats::TensorStore::open(folder_ / "back").get("model.norm.weight").dtype,
            base::DType::f32);
}

TEST_F(ConvertHf, nf4_writes_the_keys_of_bitsandbytes) {
  ConvertOptions options;
  options.nf4 = true;
  for (const bool nested : {false, true}) {
    options.double_quant = nested;
    const auto out = folder_ / (nested ? "double" : "plain");
    convert_hf(source_, out, options);
    const auto store = formats::TensorStore::open(out);
    const std::string weight = "model.layers.0.mlp.up_proj.weight";
    EXPECT_EQ(store.get(weight).shape, (std::vector<std::int64_t>{48, 1}));
    EXPECT_EQ(store.get(weight + ".absmax").dtype, nested ? base::DType::u8 : base::DType::f32);
    EXPECT_EQ(store.get(weight + ".quant_map").shape, (std::vector<std::int64_t>{16}));
    EXPECT_EQ(store.find(weight + ".nested_absmax") != nullptr, nested);
    EXPECT_EQ(store.find(weight + ".nested_quant_map") != nullptr, nested);
    EXPECT_EQ(store.get("model.embed_tokens.weight").dtype, base::DType::f32);
    const auto json = formats::parse_json(out / "config.json")["quantization_config"];
    EXPECT_EQ(json["quant_method"], "bitsandbytes");
    EXPECT_EQ(json["bnb_4bit_use_double_quant"], nested);
    EXPECT_TRUE(
        contains(sentence_of<base::ContentError>([&] { convert_hf(out, folder_ / "again", {}); }),
                 "expected a model that is not quantised"));
  }
}

TEST_F(ConvertHf, names_the_missing_the_unknown_and_the_misshapen_tensor) {
  rewrite([](auto& views) { views.front().name += "2"; });
  EXPECT_TRUE(contains(refusal(), "lack tensor 'model.embed_tokens.weight'"));
  rewrite([](auto& views) { views.front().name.pop_back(); });
  rewrite([](auto& views) { views.back().shape = {2, 4}; });
  EXPECT_TRUE(contains(refusal(), "'model.norm.weight' is (2, 4), expected (8)"));
  rewrite([](auto& views) { views.back().shape = {8}; });
  const std::vector<float> one{1};
  rewrite([&](auto& views) {
    views.push_back({"extra", base::DType::f32, {1}, std::as_bytes(std::span(one))});
  });
  EXPECT_TRUE(contains(refusal(), "'extra' is no part of the model"));
}

TEST_F(ConvertHf, ignores_a_stored_tied_head_and_rotary_buffers) {
  const auto store = formats::TensorStore::open(source_);
  rewrite([&](auto& views) {
    auto head = store.get("model.embed_tokens.weight");
    head.name = "lm_head.weight";
    views.push_back(head);
    auto buffer = store.get("model.norm.weight");
    buffer.name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    views.push_back(buffer);
  });
  convert_hf(source_, out_, {});
  EXPECT_EQ(formats::TensorStore::open(out_).find("lm_head.weight"), nullptr);
}

/// Names get their prefix, masks go, weights stay [in, out]; NF4 is made of [out, in].
TEST_F(ConvertHf, gpt2_of_old_names_is_written_as_published_today) {
  InitModelOptions options;
  options.family = "gpt2";
  options.hidden = 12;
  options.intermediate = 10;
  options.layers = 1;
  const auto fresh = folder_ / "fresh";
  init_model(fresh, options);
  const auto published = formats::TensorStore::open(fresh);
  std::filesystem::remove_all(source_);
  std::filesystem::copy(fresh, source_);
  const std::vector<float> mask(4, 1);
  rewrite([&](auto& views) {
    const std::string prefix = "transformer.";
    for (auto& view : views) view.name = view.name.substr(prefix.size());
    views.push_back(
        {"h.0.attn.bias", base::DType::f32, {1, 1, 2, 2}, std::as_bytes(std::span(mask))});
  });
  convert_hf(source_, out_, {});
  const auto dense = formats::TensorStore::open(out_);
  EXPECT_EQ(dense.names(), published.names());
  const auto bytes_of = [](const formats::TensorStore& store, const std::string& name) {
    const auto& bytes = store.get(name).bytes;
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  for (const auto& name : published.names()) {
    EXPECT_EQ(dense.get(name).shape, published.get(name).shape);
    EXPECT_EQ(bytes_of(dense, name), bytes_of(published, name)) << name;
  }
  ConvertOptions quantised;
  quantised.nf4 = true;
  convert_hf(source_, folder_ / "nf4", quantised);
  const auto nf4 = formats::TensorStore::open(folder_ / "nf4");
  const std::string weight = "transformer.h.0.attn.c_attn.weight";
  EXPECT_EQ(nf4.get(weight).shape, (std::vector<std::int64_t>{36 * 12 / 2, 1}));
  EXPECT_TRUE(contains(bytes_of(nf4, weight + ".quant_state.bitsandbytes__nf4"), "[36,12]"));
  std::vector<float> file(12 * 36);
  std::memcpy(file.data(), published.get(weight).bytes.data(), file.size() * 4);
  float largest = 0;  // of the first 64 weights of [out, in]
  for (std::size_t i = 0; i < 64; ++i) {
    largest = std::max(largest, std::abs(file[i % 12 * 36 + i / 12]));
  }
  float scale = 0;
  std::memcpy(&scale, nf4.get(weight + ".absmax").bytes.data(), 4);
  EXPECT_EQ(scale, largest);
}

TEST_F(ConvertHf, refuses_integers_and_values_beyond_the_element_type) {
  const auto store = formats::TensorStore::open(source_);
  std::vector<float> values(8, 1);
  values[3] = 3.4e38F;
  rewrite([&](auto& views) { views.back().bytes = std::as_bytes(std::span(values)); });
  ConvertOptions options;
  options.dtype = "bf16";
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { convert_hf(source_, out_, options); }),
                       "'model.norm.weight' holds 3.4e+38, which is beyond bf16"));
  EXPECT_TRUE(nothing_left(out_));
  rewrite([](auto& views) { views.back().dtype = base::DType::i32; });
  EXPECT_TRUE(contains(refusal(), "'model.norm.weight' holds I32, expected floating point"));
}

TEST_F(ConvertHf, refuses_a_directory_without_configuration_or_weights) {
  std::filesystem::remove(source_ / "model.safetensors");
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { convert_hf(source_, out_, {}); }),
                       "neither model.safetensors nor"));
  formats::write_damaged(source_ / "config.json", "[]");
  EXPECT_TRUE(contains(refusal(), "expected a JSON object"));
  std::filesystem::remove(source_ / "config.json");
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { convert_hf(source_, out_, {}); }),
                       "there is no such file"));
}

}  // namespace
}  // namespace dfmoa::checkpoints
