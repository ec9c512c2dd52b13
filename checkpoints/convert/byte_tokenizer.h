// A tokenizer without a vocabulary to learn: one token per byte, and three special ones.
#pragma once

#include <cstdint>
#include <filesystem>

namespace dfmoa::checkpoints {

/// tokenizer.json and tokenizer_config.json: byte b is token b; 256 <|endoftext|> (unknown and
/// padding), 257 <|im_start|> (begin) and 258 <|im_end|> (end), with the chatml template.
/// Throws MachineError.
void write_byte_tokenizer(const std::filesystem::path& folder, std::int64_t max_positions);

}  // namespace dfmoa::checkpoints
