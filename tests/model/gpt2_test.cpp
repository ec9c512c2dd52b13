// GPT-2: loaded from files as they are published, against the model written out in plain ops, and
// the laws that hold for every family.
#include <gtest/gtest.h>

#include <cstdlib>

#include "checkpoints/convert/convert.h"
#include "kernels/cpu_level.h"
#include "kernels/nf4.h"
#include "src/base/error.h"
#include "src/formats/json.h"
#include "src/model/block.h"
#include "src/model/generate.h"
#include "src/ops/attention.h"
#include "src/ops/gelu.h"
#include "src/ops/linear_cross_entropy.h"
#include "src/ops/nf4.h"
#include "src/ops/norm.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_gpt2.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

/// The model in plain ops, from the tensors as the file holds them.
class PlainGpt2 {
 public:
  explicit PlainGpt2(const TinyGpt2& shape) : shape_(shape) {}

  at::Tensor file(const std::string& name) const {
    const auto shapes = tiny_gpt2_tensors(shape_);
    return tiny_gpt2_tensor(name, shapes.at(name)).to(at::kDouble);
  }
  at::Tensor norm(const std::string& name, const at::Tensor& x_TD) const {
    return ops::layer_norm_plain(x_TD, file(name + ".weight"), file(name + ".bias"), 1e-5);
  }
  at::Tensor linear(const std::string& name, const at::Tensor& x_TD) const {
    return at::matmul(x_TD, file(name + ".weight")) + file(name + ".bias");
  }
  at::Tensor block(std::int64_t layer, const at::Tensor& x_TD,
                   const std::vector<std::int64_t>& begin) const {
    const auto at_layer = base::text("transformer.h.", layer, ".");
    const auto qkv = linear(at_layer + "attn.c_attn", norm(at_layer + "ln_1", x_TD)).chunk(3, 1);
    const auto heads = [&](const at::Tensor& t) {
      return t.reshape({-1, shape_.heads, shape_.hidden / shape_.heads});
    };
    const auto attended =
        ops::packed_attention_plain(heads(qkv[0]), heads(qkv[1]), heads(qkv[2]), begin);
    const auto middle = x_TD + linear(at_layer + "attn.c_proj", attended);
    const auto inner = linear(at_layer + "mlp.c_fc", norm(at_layer + "ln_2", middle));
    return middle + linear(at_layer + "mlp.c_proj", ops::gelu_new_plain(inner));
  }
  at::Tensor embed(const data::PackedRow& row) const {
    return file("transformer.wte.weight").index_select(0, torch::tensor(row.token_T)) +
           file("transformer.wpe.weight").index_select(0, torch::tensor(row.position_T));
  }
  at::Tensor logits(const data::PackedRow& row) const {
    auto x_TD = embed(row);
    for (std::int64_t l = 0; l < shape_.layers; ++l) x_TD = block(l, x_TD, row.document_begin);
    const auto head = shape_.tied_head ? "transformer.wte.weight" : "lm_head.weight";
    return at::matmul(norm("transformer.ln_f", x_TD), file(head).t());
  }

 private:
  TinyGpt2 shape_;
};

class Gpt2 : public formats::TemporaryFolder {
 protected:
  void SetUp() override {
    formats::TemporaryFolder::SetUp();
    ::setenv("XDG_CACHE_HOME", (folder_ / "cache").c_str(), 1);
  }
  std::shared_ptr<const BaseModel> load(const TinyGpt2& shape = {},
                                        at::ScalarType dtype = at::kDouble) {
    write_tiny_gpt2(folder_, shape);
    return load_tiny_model(folder_, dtype);
  }
  static at::Tensor logits_of(const Transformer& model, const data::PackedRow& row) {
    const auto x_TD = model.hidden(model.pack(row));
    return model.logits(x_TD, at::arange(x_TD.size(0), at::kLong));
  }
  std::string refusal_of(const std::string& key, const nlohmann::json& value) {
    write_tiny_gpt2(folder_);
    auto config = formats::parse_json(folder_ / "config.json");
    config[key] = value;
    base::write_file(folder_ / "config.json", config.dump());
    return formats::sentence_of<base::ContentError>(
        [&] { (void)load_tiny_model(folder_, at::kFloat); });
  }
};

double relative(const at::Tensor& one, const at::Tensor& two) {
  return tests::distance(one, two) / two.detach().abs().max().item<double>();
}

TEST_F(Gpt2, logits_of_packed_documents_equal_the_model_in_plain_ops) {
  const auto row = tiny_row({5, 7, 64});
  for (const bool tied : {true, false}) {
    for (const std::int64_t heads : {9, 12, 1}) {
      const TinyGpt2 shape{.heads = heads, .layers = 3, .tied_head = tied};
      const auto logits = logits_of(Transformer(load(shape)), row);
      EXPECT_LT(relative(logits, PlainGpt2(shape).logits(row)), 1e-13) << heads << tied;
    }
  }
  const TinyGpt2 odd{.heads = 5, .hidden = 35, .intermediate = 7};  // heads of extent 7
  EXPECT_LT(relative(logits_of(Transformer(load(odd)), row), PlainGpt2(odd).logits(row)), 1e-13);
}

TEST_F(Gpt2, old_files_without_prefix_and_with_masks_are_the_same_model) {
  const auto row = tiny_row({5, 4});
  const auto published = logits_of(Transformer(load()), row);
  const auto old = logits_of(Transformer(load({.is_old = true})), row);
  EXPECT_TRUE(at::equal(old, published));
  auto config = formats::parse_json(folder_ / "config.json");
  config["n_ctx"] = config["n_positions"];
  config.erase("n_positions");
  base::write_file(folder_ / "config.json", config.dump());
  EXPECT_EQ(read_architecture(folder_).max_positions, 64);
  EXPECT_TRUE(at::equal(logits_of(Transformer(load_tiny_model(folder_, at::kDouble)), row), old));
}

TEST_F(Gpt2, a_mask_of_another_name_and_a_missing_bias_are_named) {
  write_tiny_gpt2(folder_, {.is_old = true});
  auto text = base::read_file(folder_ / "model.safetensors");
  const auto rename = [&](const std::string& from, const std::string& to) {
    auto changed = text;
    changed.replace(changed.find(from), from.size(), to);
    base::write_file(folder_ / "model.safetensors", changed);
    return formats::sentence_of<base::ContentError>(
        [&] { (void)load_tiny_model(folder_, at::kFloat); });
  };
  EXPECT_TRUE(formats::contains(rename("h.1.attn.bias", "h.1.attn.bia2"), "h.1.attn.bia2"));
  EXPECT_TRUE(formats::contains(rename("h.1.ln_2.bias", "h.1.ln_2.bia2"), "h.1.ln_2.bias"));
}

TEST_F(Gpt2, unsupported_features_are_refused_by_key_and_value) {
  const std::vector<std::pair<std::string, nlohmann::json>> cases{
      {"scale_attn_by_inverse_layer_idx", true},
      {"reorder_and_upcast_attn", true},
      {"scale_attn_weights", false},
      {"add_cross_attention", true},
      {"activation_function", "gelu"},
      {"n_head", 7},
      {"n_embd", nullptr}};
  for (const auto& [key, value] : cases) {
    const auto sentence = refusal_of(key, value);
    EXPECT_TRUE(formats::contains(sentence, key)) << sentence;
    EXPECT_TRUE(value.is_null() || formats::contains(sentence, value.dump())) << sentence;
  }
  EXPECT_TRUE(formats::contains(refusal_of("n_inner", nullptr), "expected (144)"));
  EXPECT_TRUE(formats::contains(refusal_of("n_positions", 65), "expected (65, 36)"));
}

TEST_F(Gpt2, both_names_of_its_activation_are_known) {
  for (const char* name : {"gelu_new", "gelu_pytorch_tanh"}) {
    write_tiny_gpt2(folder_);
    auto config = formats::parse_json(folder_ / "config.json");
    config["activation_function"] = name;
    base::write_file(folder_ / "config.json", config.dump());
    EXPECT_NO_THROW((void)load_tiny_model(folder_, at::kFloat)) << name;
  }
}

TEST_F(Gpt2, parameters_are_counted_with_positions_and_biases) {
  for (const bool tied : {true, false}) {
    const TinyGpt2 shape{.tied_head = tied};
    std::int64_t numbers = 0;
    for (const auto& [name, extent] : tiny_gpt2_tensors(shape)) numbers += base::count_of(extent);
    write_tiny_gpt2(folder_, shape);
    EXPECT_EQ(num_parameters(read_architecture(folder_)), numbers);
  }
}

/// Scales and codes are those of c_attn as one (3 D, D) weight, whether or not a slice begins at a
/// block.
TEST_F(Gpt2, q_k_and_v_are_rows_of_one_quantised_linear) {
  for (const std::int64_t hidden : {36, 48}) {
    const TinyGpt2 shape{.heads = 12, .hidden = hidden};
    write_tiny_gpt2(folder_, shape);
    ModelConfig config;
    config.path = folder_.string();
    config.quantize = "nf4";
    const auto model = load_base_model(config, at::kDouble);
    const PlainGpt2 plain(shape);
    const std::string name = "transformer.h.1.attn.c_attn";
    const auto weight_FD = plain.file(name + ".weight").to(at::kFloat).t().contiguous();
    auto codes = at::empty({weight_FD.numel() / 2}, at::kByte);
    auto absmax = at::empty({(weight_FD.numel() + 63) / 64}, at::kFloat);
    ASSERT_TRUE(kernels::nf4_quantize(weight_FD.const_data_ptr<float>(), weight_FD.numel(), 64,
                                      codes.data_ptr<std::uint8_t>(), absmax.data_ptr<float>(),
                                      kernels::cpu_level()));
    const auto whole_FD = ops::nf4_dequantize(codes, absmax, 64, {3 * hidden, hidden}, at::kDouble);
    const auto bias_F = plain.file(name + ".bias");
    const auto x_TD = tests::normal({5, hidden}, 1);
    for (std::int64_t site = 0; site < 3; ++site) {
      const auto& linear = *model->layers[1].linears[static_cast<std::size_t>(site)];
      const auto rows_FD = whole_FD.narrow(0, site * hidden, hidden);
      const auto expected = at::addmm(bias_F.narrow(0, site * hidden, hidden), x_TD, rows_FD.t());
      EXPECT_EQ(tests::distance(linear.forward(x_TD), expected), 0) << hidden << site;
      EXPECT_EQ(tests::distance(linear.backward(x_TD), at::mm(x_TD, rows_FD)), 0);
    }
  }
}

TEST_F(Gpt2, stored_nf4_equals_nf4_made_while_loading) {
  for (const bool is_old : {false, true}) {
    write_tiny_gpt2(folder_, {.is_old = is_old});
    ModelConfig config;
    config.path = folder_.string();
    config.quantize = "nf4";
    const auto made = load_base_model(config, at::kDouble);
    checkpoints::ConvertOptions options;
    options.nf4 = true;
    const auto stored = folder_ / (is_old ? "old" : "new");
    checkpoints::convert(folder_, stored, options);
    config = {};
    config.path = stored.string();
    const auto read = load_base_model(config, at::kDouble);
    EXPECT_EQ(read->hash == made->hash, !is_old);  // names are part of it
    const auto row = tiny_row({5, 4});
    EXPECT_TRUE(at::equal(logits_of(Transformer(read), row), logits_of(Transformer(made), row)));
  }
}

TEST_F(Gpt2, texts_beyond_its_positions_are_refused) {
  const Transformer model(load());
  EXPECT_NO_THROW((void)model.pack(tiny_row({64, 64})));
  const auto refusal = [](auto&& body) { return formats::sentence_of<base::ContentError>(body); };
  EXPECT_TRUE(formats::contains(refusal([&] { (void)model.pack(tiny_row({65})); }),
                                "65 tokens, expected at most the 64 positions"));
  const std::vector<std::int32_t> longer(65, 1);
  EXPECT_TRUE(formats::contains(refusal([&] { (void)model.pack_sequences({longer}, {0}); }),
                                "sequence 0 has 65 tokens, expected at most the 64 positions"));
  EXPECT_THROW((void)model.pack_sequences({{1, 2}}, {63}), base::ContentError);
  EXPECT_NO_THROW((void)model.pack_sequences({{1}}, {63}));
  SamplingConfig config;
  config.tokens = 4;
  const Generator generator(model, config, {});
  EXPECT_EQ(generator.run({std::vector<std::int32_t>(60, 1)}, {})[0].tokens.size(), 4U);
  EXPECT_THROW((void)generator.run({longer}, {}), base::ContentError);
  EXPECT_THROW((void)generator.run({std::vector<std::int32_t>(61, 1)}, {}), base::UsageError);
}

TEST_F(Gpt2, an_adapter_on_all_sites_takes_those_that_it_has) {
  Transformer model(load());
  model.adapt(tiny_plan("token"), 3);
  std::vector<std::string> sites;
  for (const auto& group : model.blocks()[1].adapters().groups) {
    for (const auto& site : group.sites) sites.push_back(site.site);
  }
  EXPECT_EQ(sites, (std::vector<std::string>{"q", "k", "v", "o", "up", "down"}));
  auto plan = tiny_plan("token");
  plan.adapters["mix"].sites = {"up", "gate"};
  Transformer other(model);
  const auto sentence = formats::sentence_of<base::UsageError>([&] { other.adapt(plan, 3); });
  EXPECT_TRUE(formats::contains(sentence,
                                "'gate' matches no linear, expected all, or some of q, k, v, o, "
                                "up, down"))
      << sentence;
}

TEST_F(Gpt2, adapted_model_equals_its_base_bitwise_before_the_first_update) {
  const auto row = tiny_row({5, 4, 7});
  for (const std::int64_t heads : {9, 12}) {
    for (const std::string scope : {"token", "span"}) {
      const auto base = load({.heads = heads});
      Transformer adapted(base);
      auto plan = tiny_plan(scope);
      plan.rank_gates["gate"] = {};
      plan.adapters["mix"].rank_gate = "gate";
      adapted.adapt(plan, 3);
      EXPECT_TRUE(at::equal(logits_of(adapted, row), logits_of(Transformer(base), row))) << scope;
    }
  }
}

TEST_F(Gpt2, no_output_depends_on_a_later_token_or_another_document) {
  for (const std::int64_t heads : {9, 12}) {
    Transformer mixed(load({.heads = heads}));
    mixed.adapt(tiny_plan("token"), 3);
    stir(mixed);
    const auto before = logits_of(mixed, tiny_row({5, 4}));
    for (std::int64_t s = 0; s < 9; ++s) {
      auto changed = tiny_row({5, 4});
      auto& token = changed.token_T[static_cast<std::size_t>(s)];
      token = (token + 1) % 273;
      const auto after = logits_of(mixed, changed);
      const std::int64_t end = s < 5 ? 5 : 9;
      EXPECT_TRUE(at::equal(after.narrow(0, 0, s), before.narrow(0, 0, s))) << s;
      EXPECT_FALSE(at::equal(after[s], before[s])) << s;
      EXPECT_TRUE(at::equal(after.narrow(0, end, 9 - end), before.narrow(0, end, 9 - end))) << s;
    }
  }
}

TEST_F(Gpt2, gradients_of_an_adapted_block_are_slopes) {
  const TinyGpt2 shape{.heads = 3, .hidden = 6, .intermediate = 8, .layers = 1};
  Transformer mixed(load(shape));
  auto plan = tiny_plan("token", 2);
  plan.adapters["mix"].rank = 1;
  mixed.adapt(plan, 3);
  stir(mixed);
  const auto& block = mixed.blocks()[0];
  const auto rows = mixed.pack(tiny_row({3, 2}));
  const auto x_TD = mixed.embed(rows).detach().requires_grad_();
  const auto dy_TD = tests::normal(x_TD.sizes(), 4);
  const auto f = [&] {
    return (block.forward(x_TD, {rows, {}}).y_TD * dy_TD).sum().item<double>();
  };
  std::vector<at::Tensor> inputs{x_TD};
  for (const auto& leaf : block.parameters().leaves()) inputs.push_back(leaf);
  const auto slopes = tests::gradients({block.forward(x_TD, {rows, {}}).y_TD}, {dy_TD}, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LT(relative(slopes[i], tests::central_differences(f, inputs[i], 1e-6)), 1e-8) << i;
  }
}

TEST_F(Gpt2, gradients_through_block_and_head_equal_plain_autograd) {
  const TinyGpt2 shape{.layers = 1};
  const Transformer model(load(shape));
  const PlainGpt2 plain(shape);
  const auto row = tiny_row({5, 7});
  const auto rows = model.pack(row);
  const auto expected_x = plain.embed(row).requires_grad_();
  const auto hidden = plain.block(0, expected_x, row.document_begin);
  const auto ce = ops::linear_cross_entropy_plain(
                      plain.norm("transformer.ln_f", hidden.index_select(0, rows.loss_row_X)),
                      plain.file("transformer.wte.weight"), rows.target_X)
                      .sum() /
                  10.0;
  const auto expected = tests::gradients({ce}, {at::ones_like(ce)}, {hidden, expected_x});

  const auto x_TD = model.embed(rows).requires_grad_();
  const auto y_TD = model.blocks()[0].forward(x_TD, {rows, {}}).y_TD;
  const auto head = model.head(y_TD.detach(), rows, 0.1, /*want_gradient=*/true);
  EXPECT_LT(relative(head.ce_sum / 10.0, ce), 1e-13);
  EXPECT_LT(relative(head.dx_TD, expected[0]), 1e-12);
  EXPECT_LT(relative(tests::gradients({y_TD}, {head.dx_TD}, {x_TD})[0], expected[1]), 1e-12);
}

}  // namespace
}  // namespace dfmoa::model
