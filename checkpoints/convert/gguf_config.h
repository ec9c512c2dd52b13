// The model configuration in the metadata of a GGUF file.
#pragma once

#include "checkpoints/convert/model_config.h"
#include "src/formats/gguf.h"

namespace dfmoa::checkpoints {

/// Architectures llama and qwen2. Nothing is assumed: the base of the rotary angles is read.
/// Throws ContentError naming file, key and value for another architecture, for a key of the
/// architecture that we do not know, for rope scaling that is not llama3's, for sliding windows,
/// experts and partial rotation, and for what is missing or contradicts the tensors.
[[nodiscard]] ModelConfig read_gguf_config(const formats::GgufFile& file);

}  // namespace dfmoa::checkpoints
