// A base model with random weights: small ones for tests, and for training from nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "src/base/fields.h"

namespace dfmoa::checkpoints {

struct InitModelOptions {
  std::string family = "llama";
  std::string tokenizer;
  std::int64_t vocabulary = 0;
  std::int64_t hidden = 64;
  std::int64_t layers = 2;
  std::int64_t heads = 4;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t intermediate = 0;
  std::int64_t max_positions = 2048;
  bool tied = true;
  bool qkv_bias = false;
  double norm_eps = 1e-5;
  double rope_theta = 10000;
  bool llama3_scaling = false;
  std::int64_t seed = 1;
  double std = 0.02;

  void fields(base::FieldList& list);
};

/// A Hugging Face directory in fp32. A weight is std times a standard normal that depends on seed,
/// tensor name and place in the file alone; norms are 1. Of family llama it is a Qwen2 model with
/// qkv_bias, else LLaMA.
/// Throws UsageError for an `out` that is in use, a tokenizer directory that is not there and
/// numbers that contradict each other or the family; ContentError as data::Tokenizer; MachineError,
/// after which nothing of `out` is left, when it cannot be written.
void init_model(const std::filesystem::path& out, const InitModelOptions& options);

}  // namespace dfmoa::checkpoints
