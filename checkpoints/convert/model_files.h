// The small files of a model directory.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "checkpoints/convert/options.h"

namespace dfmoa::checkpoints {

/// Indented JSON and a line end, synced.
/// Throws ContentError that names the file for text that is not UTF-8, MachineError.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value);
void write_json(const std::filesystem::path& path, const nlohmann::json& value);

/// Copies whichever of the tokenizer's files there are. Throws MachineError.
void copy_tokenizer_files(const std::filesystem::path& from, const std::filesystem::path& to);

/// Adds torch_dtype and, for NF4, the quantization_config by which transformers opens the directory
/// with bitsandbytes. Throws UsageError as ConvertOptions::checked_dtype.
void state_element_type(nlohmann::ordered_json& config, const ConvertOptions& options);

}  // namespace dfmoa::checkpoints
