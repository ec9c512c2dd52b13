#include "checkpoints/convert/gguf_config.h"

#include <cmath>
#include <numbers>

#include "src/base/error.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

class GgufConfig : public TemporaryFolder {
 protected:
  ModelConfig read(const SmallGguf& gguf) {
    return read_gguf_config(formats::GgufFile(gguf.write(folder_)));
  }
  std::string refusal(const std::string& key, const std::string& value) {
    SmallGguf gguf;
    gguf.keys[key] = value;
    return sentence_of<base::ContentError>([&] { static_cast<void>(read(gguf)); });
  }
  /// What converters write for one frequency: factor 8 from 8192 positions.
  static float divisor(double wavelength) {
    if (wavelength < 8192.0 / 4) return 1;
    if (wavelength > 8192.0) return 8;
    const auto smooth = (8192 / wavelength - 1) / 3;
    return static_cast<float>(1 / ((1 - smooth) / 8 + smooth));
  }
};

TEST_F(GgufConfig, reads_every_number) {
  const auto config = read(SmallGguf());
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.hidden, 8);
  EXPECT_EQ(config.intermediate, 6);
  EXPECT_EQ(config.layers, 1);
  EXPECT_EQ(config.heads, 2);
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.vocabulary, 260);
  EXPECT_EQ(config.max_positions, 64);
  EXPECT_EQ(config.norm_eps, 1e-5);  // the file's fp32 is 9.99999975e-06
  EXPECT_EQ(config.rope_theta, 100000);
  EXPECT_TRUE(config.tied_head);
  EXPECT_EQ(config.bos_id, 257);
  EXPECT_FALSE(config.rope_scaling);
}

TEST_F(GgufConfig, a_stored_head_is_not_tied) {
  SmallGguf gguf;
  gguf.add("output.weight", {8, 260});
  EXPECT_FALSE(read(gguf).tied_head);
}

TEST_F(GgufConfig, never_assumes_the_base_of_the_angles) {
  SmallGguf gguf;
  gguf.keys.erase("llama.rope.freq_base");
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { static_cast<void>(read(gguf)); }),
                       "llama.rope.freq_base"));
}

TEST_F(GgufConfig, the_extent_of_a_head_may_be_stated) {
  SmallGguf gguf;
  gguf.keys["llama.rope.dimension_count"] = gguf_count(6);
  EXPECT_EQ(read(gguf).head_dim, 6);
  gguf.keys["llama.attention.key_length"] = gguf_count(6);
  gguf.keys["llama.attention.value_length"] = gguf_count(6);
  EXPECT_EQ(read(gguf).head_dim, 6);
  gguf.keys["llama.attention.value_length"] = gguf_count(4);
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { static_cast<void>(read(gguf)); }),
                       "llama.attention.value_length is 4, expected 6"));
  EXPECT_TRUE(contains(refusal("llama.attention.key_length", gguf_count(3)), "an even number"));
}

TEST_F(GgufConfig, refuses_by_key_and_value) {
  const std::vector<std::tuple<std::string, std::string, std::string>> wrong{
      {"general.architecture", gguf_word("gemma"), "general.architecture is 'gemma', expected"},
      {"llama.rope.scaling.type", gguf_word("yarn"), "llama.rope.scaling.type is 'yarn', expected"},
      {"llama.attention.sliding_window", gguf_count(512), "sliding_window is 512, expected"},
      {"llama.expert_count", gguf_count(8), "llama.expert_count is 8, expected"},
      {"llama.logit_scale", gguf_real(0.5F), "llama.logit_scale is 0.5, expected"},
      {"llama.use_parallel_residual", gguf_flag(true), "use_parallel_residual is true, expected"},
      {"llama.block_count", gguf_count(0), "llama.block_count is 0, expected a positive"},
      {"llama.vocab_size", gguf_count(9), "llama.vocab_size is 9, expected 260"},
      {"llama.attention.head_count_kv", gguf_count(3), "head_count_kv is 3, expected a divisor"},
      {"llama.rope.freq_base", gguf_real(0), "llama.rope.freq_base is 0, expected"},
      {"tokenizer.ggml.bos_token_id", gguf_count(260), "bos_token_id is 260, expected 0 to 259"}};
  for (const auto& [key, value, part] : wrong) {
    const auto sentence = refusal(key, value);
    EXPECT_TRUE(contains(sentence, part)) << sentence;
  }
}

TEST_F(GgufConfig, keys_that_switch_nothing_on_are_let_through) {
  SmallGguf gguf;
  gguf.keys["llama.expert_count"] = gguf_count(0);
  gguf.keys["llama.rope.scaling.type"] = gguf_word("none");
  gguf.keys["general.name"] = gguf_word("a name");
  EXPECT_EQ(read(gguf).layers, 1);
}

TEST_F(GgufConfig, finds_llama3_scaling_in_its_divisors) {
  SmallGguf gguf;
  gguf.keys["llama.rope.dimension_count"] = gguf_count(16);
  gguf.add("rope_freqs.weight", {8});
  auto& values = gguf.tensors["rope_freqs.weight"].values;
  gguf.keys["llama.rope.freq_base"] = gguf_real(500000);
  for (std::size_t i = 0; i < 8; ++i) {
    const auto frequency = std::pow(500000.0, -static_cast<double>(i) / 8);
    values[i] = divisor(2 * std::numbers::pi / frequency);
  }
  const auto config = read(gguf);
  ASSERT_TRUE(config.rope_scaling);
  EXPECT_EQ(config.rope_scaling->factor, 8);
  EXPECT_EQ(config.rope_scaling->original_positions, 8192);
  values[3] *= 1.01F;
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { static_cast<void>(read(gguf)); }),
                       "element 3 of rope_freqs.weight"));
}

}  // namespace
}  // namespace dfmoa::checkpoints
