// A LLaMA of one layer in a GGUF file, whose keys and tensors a test may change before it is
// written; and small Hugging Face directories.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "src/base/dtype.h"
#include "src/base/file.h"
#include "src/data/byte_alphabet.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::checkpoints {

using formats::contains;
using formats::sentence_of;
using formats::TemporaryFolder;

inline std::string gguf_word(const std::string& text) {
  return formats::raw<std::uint32_t>(8) + formats::gguf_string(text);
}
inline std::string gguf_count(std::uint32_t value) {
  return formats::raw<std::uint32_t>(4) + formats::raw(value);
}
inline std::string gguf_real(float value) {
  return formats::raw<std::uint32_t>(6) + formats::raw(value);
}
inline std::string gguf_flag(bool value) {
  return formats::raw<std::uint32_t>(7) + std::string(1, value ? '\1' : '\0');
}
inline std::string gguf_words(const std::vector<std::string>& list) {
  auto bytes = formats::raw<std::uint32_t>(9) + formats::raw<std::uint32_t>(8) +
               formats::raw<std::uint64_t>(list.size());
  for (const auto& one : list) bytes += formats::gguf_string(one);
  return bytes;
}
inline std::string gguf_counts(const std::vector<std::uint32_t>& list) {
  auto bytes = formats::raw<std::uint32_t>(9) + formats::raw<std::uint32_t>(4) +
               formats::raw<std::uint64_t>(list.size());
  for (const auto one : list) bytes += formats::raw(one);
  return bytes;
}

/// hidden 8, 2 query heads and 1 key head of 4, MLP 6, 260 tokens, tied head.
struct SmallGguf {
  struct Tensor {
    std::vector<std::uint64_t> extents;  ///< innermost first
    std::vector<float> values;
  };
  std::map<std::string, std::string> keys;  ///< value type and value
  std::map<std::string, Tensor> tensors;
  std::vector<std::string> tokens;

  explicit SmallGguf(const std::string& architecture = "llama", const std::string& pre = "gpt-2") {
    const auto a = architecture + ".";
    keys = {{"general.architecture", gguf_word(architecture)},
            {a + "block_count", gguf_count(1)},
            {a + "context_length", gguf_count(64)},
            {a + "embedding_length", gguf_count(8)},
            {a + "feed_forward_length", gguf_count(6)},
            {a + "attention.head_count", gguf_count(2)},
            {a + "attention.head_count_kv", gguf_count(1)},
            {a + "attention.layer_norm_rms_epsilon", gguf_real(1e-5F)},
            {a + "rope.freq_base", gguf_real(100000)},
            {"tokenizer.ggml.model", gguf_word("gpt2")},
            {"tokenizer.ggml.pre", gguf_word(pre)},
            {"tokenizer.ggml.merges", gguf_words({"a b"})},
            {"tokenizer.ggml.bos_token_id", gguf_count(257)},
            {"tokenizer.ggml.eos_token_id", gguf_count(258)}};
    std::vector<std::uint32_t> kinds(256, 1);
    for (int byte = 0; byte < 256; ++byte) {
      tokens.push_back(data::written_of_bytes(std::string(1, static_cast<char>(byte))));
    }
    for (const auto& [token, kind] :
         {std::pair{"ab", 1U}, {"<s>", 3U}, {"</s>", 3U}, {"<u>", 4U}}) {
      tokens.emplace_back(token);
      kinds.push_back(kind);
    }
    keys["tokenizer.ggml.tokens"] = gguf_words(tokens);
    keys["tokenizer.ggml.token_type"] = gguf_counts(kinds);
    add_tensors();
  }

  void add(const std::string& name, const std::vector<std::uint64_t>& extents) {
    std::size_t count = 1;
    for (const auto extent : extents) count *= extent;
    Tensor tensor{extents, std::vector<float>(count)};
    for (std::size_t i = 0; i < count; ++i) tensor.values[i] = static_cast<float>(i) * 0.25F - 3;
    tensors[name] = std::move(tensor);
  }

  void add_tensors() {
    add("token_embd.weight", {8, 260});
    add("output_norm.weight", {8});
    add("blk.0.attn_norm.weight", {8});
    add("blk.0.ffn_norm.weight", {8});
    add("blk.0.attn_q.weight", {8, 8});
    add("blk.0.attn_k.weight", {8, 4});
    add("blk.0.attn_v.weight", {8, 4});
    add("blk.0.attn_output.weight", {8, 8});
    add("blk.0.ffn_gate.weight", {8, 6});
    add("blk.0.ffn_up.weight", {8, 6});
    add("blk.0.ffn_down.weight", {6, 8});
  }

  std::filesystem::path write(const std::filesystem::path& folder) const {
    formats::GgufBuilder builder;
    for (const auto& [name, value] : keys)
      builder.keys.push_back(formats::gguf_string(name) + value);
    for (const auto& [name, tensor] : tensors) {
      builder.entries.push_back(formats::gguf_entry(name, tensor.extents, 0, builder.data.size()));
      for (const auto value : tensor.values) builder.data += formats::raw(value);
      builder.data.append((32 - builder.data.size() % 32) % 32, '\0');
    }
    formats::write_damaged(folder / "small.gguf", builder.bytes());
    return folder / "small.gguf";
  }
};

/// Neither `out` nor anything unfinished beside it.
inline bool nothing_left(const std::filesystem::path& out) {
  return !std::filesystem::exists(out) && !std::filesystem::exists(out.string() + ".tmp");
}

}  // namespace dfmoa::checkpoints
