#include "checkpoints/convert/model_layout.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace dfmoa::checkpoints {
namespace {

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
  config.tied_head = true;
  return config;
}

const LayoutTensor& find(const std::vector<LayoutTensor>& layout, const std::string& name) {
  const auto found = std::find_if(layout.begin(), layout.end(),
                                  [&](const LayoutTensor& tensor) { return tensor.name == name; });
  if (found == layout.end()) throw std::out_of_range(name);
  return *found;
}

TEST(ModelLayout, names_and_shapes_follow_heads_and_extents) {
  const auto layout = layout_of(sample());
  EXPECT_EQ(layout.size(), 2U + 2 * 9);
  const auto& q = find(layout, "model.layers.1.self_attn.q_proj.weight");
  EXPECT_EQ(q.gguf_name, "blk.1.attn_q.weight");
  EXPECT_EQ(q.shape, (std::vector<std::int64_t>{24, 8}));
  EXPECT_EQ(q.rope_heads, 4);
  EXPECT_TRUE(q.is_linear);
  const auto& k = find(layout, "model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(k.shape, (std::vector<std::int64_t>{12, 8}));
  EXPECT_EQ(k.rope_heads, 2);
  EXPECT_EQ(find(layout, "model.layers.0.self_attn.v_proj.weight").rope_heads, 0);
  EXPECT_EQ(find(layout, "model.layers.0.self_attn.o_proj.weight").shape,
            (std::vector<std::int64_t>{8, 24}));
  EXPECT_EQ(find(layout, "model.layers.0.mlp.down_proj.weight").shape,
            (std::vector<std::int64_t>{8, 12}));
  EXPECT_EQ(find(layout, "model.layers.0.post_attention_layernorm.weight").gguf_name,
            "blk.0.ffn_norm.weight");
}

TEST(ModelLayout, only_the_linears_of_layers_are_quantised) {
  auto config = sample();
  config.tied_head = false;
  config.qkv_bias = config.o_bias = config.mlp_bias = true;
  const auto layout = layout_of(config);
  const auto linears = std::count_if(layout.begin(), layout.end(),
                                     [](const LayoutTensor& tensor) { return tensor.is_linear; });
  EXPECT_EQ(linears, 14);
  EXPECT_FALSE(find(layout, "lm_head.weight").is_linear);
  EXPECT_FALSE(find(layout, "model.layers.0.self_attn.q_proj.bias").is_linear);
  EXPECT_EQ(find(layout, "model.layers.0.mlp.up_proj.bias").shape, (std::vector<std::int64_t>{12}));
  EXPECT_EQ(layout.size(), 3U + 2 * 16);
}

TEST(ModelLayout, rotary_buffers_and_causal_masks_are_ignored_in_their_family) {
  auto config = sample();
  EXPECT_TRUE(is_ignored_tensor(config, "model.layers.0.self_attn.rotary_emb.inv_freq"));
  EXPECT_FALSE(is_ignored_tensor(config, "model.norm.weight"));
  EXPECT_FALSE(is_ignored_tensor(config, "h.0.attn.bias"));
  config.model_type = "gpt2";
  EXPECT_TRUE(is_ignored_tensor(config, "h.0.attn.bias"));
  EXPECT_TRUE(is_ignored_tensor(config, "transformer.h.0.attn.masked_bias"));
  EXPECT_FALSE(is_ignored_tensor(config, "h.0.attn.c_attn.bias"));
  EXPECT_FALSE(is_ignored_tensor(config, "h.0.attn.rotary_emb.inv_freq"));
}

TEST(ModelLayout, linears_of_gpt2_lie_in_by_out_and_all_have_biases) {
  auto config = sample();
  config.model_type = "gpt2";
  config.max_positions = 32;
  const auto layout = layout_of(config);
  EXPECT_EQ(layout.size(), 4U + 2 * 12);
  const auto& attention = find(layout, "transformer.h.1.attn.c_attn.weight");
  EXPECT_EQ(attention.shape, (std::vector<std::int64_t>{8, 24}));
  EXPECT_EQ(attention.old_name, "h.1.attn.c_attn.weight");
  EXPECT_TRUE(attention.is_linear && attention.is_transposed);
  EXPECT_EQ(find(layout, "transformer.h.1.attn.c_attn.bias").shape,
            (std::vector<std::int64_t>{24}));
  EXPECT_EQ(find(layout, "transformer.h.0.mlp.c_proj.weight").shape,
            (std::vector<std::int64_t>{12, 8}));
  const auto& positions = find(layout, "transformer.wpe.weight");
  EXPECT_EQ(positions.shape, (std::vector<std::int64_t>{32, 8}));
  EXPECT_FALSE(positions.is_linear || positions.is_transposed);
  const auto linears = std::count_if(layout.begin(), layout.end(),
                                     [](const LayoutTensor& tensor) { return tensor.is_linear; });
  EXPECT_EQ(linears, 8);
  config.tied_head = false;
  EXPECT_EQ(layout_of(config).back().name, "lm_head.weight");
}

}  // namespace
}  // namespace dfmoa::checkpoints
