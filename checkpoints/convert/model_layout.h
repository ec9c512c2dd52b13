// Every tensor of a model of the LLaMA family: its name here, its name in a GGUF file, its shape.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoints/convert/model_config.h"

namespace dfmoa::checkpoints {

struct LayoutTensor {
  std::string name;       ///< as Hugging Face files call it
  std::string gguf_name;  ///< as GGUF files call it
  std::vector<std::int64_t> shape;
  bool is_linear = false;       ///< a weight [out, in] of a layer: what NF4 quantises
  std::int64_t rope_heads = 0;  ///< of a query or key projection; 0 for every other tensor
};

/// All tensors, in the order of the model: embedding, layers, norm, head (absent where it is tied).
[[nodiscard]] std::vector<LayoutTensor> layout_of(const ModelConfig& config);

/// Tensors that old files hold and nobody needs.
[[nodiscard]] bool is_ignored_tensor(std::string_view name);

}  // namespace dfmoa::checkpoints
