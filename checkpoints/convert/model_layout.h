// Every tensor of a model: its name here, its name in a GGUF file, its shape.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoints/convert/model_config.h"

namespace dfmoa::checkpoints {

struct LayoutTensor {
  std::string name;       ///< as Hugging Face files call it
  std::string gguf_name;  ///< as GGUF files call it; empty where none are read
  std::vector<std::int64_t> shape;
  bool is_linear = false;       ///< a weight [out, in] of a layer: what NF4 quantises
  std::int64_t rope_heads = 0;  ///< of a query or key projection; 0 for every other tensor
  bool is_transposed = false;   ///< a linear whose dense weight lies [in, out] in files
  std::string old_name{};       ///< as old files call it, where that is another name
};

/// All tensors, in the order of the model: embeddings, layers, norm, head (absent where it is
/// tied).
[[nodiscard]] std::vector<LayoutTensor> layout_of(const ModelConfig& config);

/// Tensors that old files of such a model hold and nobody needs.
[[nodiscard]] bool is_ignored_tensor(const ModelConfig& config, std::string_view name);

}  // namespace dfmoa::checkpoints
