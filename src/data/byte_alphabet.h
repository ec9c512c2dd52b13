// GPT-2's printable stand-ins for bytes: vocabularies write the byte 0x20 as U+0120.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace dfmoa::data {

/// The bytes that `written` stands for; nothing if a character stands for no byte.
/// Source  Radford et al. 2019, encoder.py: printable Latin-1 stands for itself, the 68 other bytes
///         for U+0100 onwards in their order.
[[nodiscard]] std::optional<std::string> bytes_of_written(std::string_view written);

/// How a vocabulary writes `bytes`.
[[nodiscard]] std::string written_of_bytes(std::string_view bytes);

}  // namespace dfmoa::data
