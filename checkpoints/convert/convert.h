// A model of another program becomes a Hugging Face directory.
#pragma once

#include <filesystem>

#include "checkpoints/convert/options.h"

namespace dfmoa::checkpoints {

/// A GGUF file: config.json, model.safetensors, tokenizer.json, tokenizer_config.json and
/// generation_config.json. LLaMA's query and key rows go back into the order of the published
/// rotary embedding.
/// Throws UsageError for a missing file, an `out` that is in use, or wrong options; ContentError
/// that names file and key, tensor or value for whatever is missing, unknown, misshapen or not
/// finite; MachineError, after which nothing of `out` is left, when it cannot be written.
void convert_gguf(const std::filesystem::path& gguf, const std::filesystem::path& out,
                  const ConvertOptions& options);

/// A Hugging Face directory, one weight file or many, not quantised. config.json and the
/// tokenizer's files are copied; config.json states the new element type. GPT-2's tensors get the
/// names of today; its linears stay [in, out], in NF4 they are [out, in]. Throws as convert_gguf.
void convert_hf(const std::filesystem::path& folder, const std::filesystem::path& out,
                const ConvertOptions& options);

/// Whichever of the two `source` is: a directory or a file.
/// Throws UsageError if there is neither, else as they do.
void convert(const std::filesystem::path& source, const std::filesystem::path& out,
             const ConvertOptions& options);

}  // namespace dfmoa::checkpoints
