// Text with the gates of its tokens: what each token shows, and how its strongest expert is marked.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/data/tokenizer.h"

namespace dfmoa::launch {

/// What every token adds to the text, well-formed UTF-8 that joins to it. A character of several
/// tokens stands with the last of them.
[[nodiscard]] std::vector<std::string> pieces_of(const data::Tokenizer& tokenizer,
                                                 std::span<const std::int32_t> tokens);

/// Standard output is a terminal, and NO_COLOR is not set.
[[nodiscard]] bool shows_colour();

/// The piece in the colour of its strongest expert or, without colours, "piece{e}". Without gates:
/// the piece alone.
[[nodiscard]] std::string marked(const std::string& piece, std::span<const float> gates,
                                 bool colour);

}  // namespace dfmoa::launch
