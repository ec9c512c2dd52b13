// UTF-8 by hand: validation with the place of the fault, code points, blanks.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace dfmoa::data {

/// One code point and the bytes it takes.
struct CodePoint {
  char32_t value = 0;
  std::size_t length = 1;
};

/// Offset of the first byte that is not part of well-formed UTF-8; text.size() if there is none.
[[nodiscard]] std::size_t valid_utf8_prefix(std::string_view text);

/// Throws ContentError with the byte and its offset unless `text` is well-formed UTF-8.
void check_utf8(std::string_view text, std::string_view what);

/// The code point that starts at `at`. The text must be well-formed and `at` a boundary.
[[nodiscard]] CodePoint code_point_at(std::string_view text, std::size_t at);

/// The code point that ends at `end` (> 0). The text must be well-formed and `end` a boundary.
[[nodiscard]] CodePoint code_point_before(std::string_view text, std::size_t end);

/// `text` with every maximal ill-formed part replaced by U+FFFD, as Python and Rust do.
[[nodiscard]] std::string with_replacement_characters(std::string_view text);

/// Unicode property White_Space.
[[nodiscard]] bool is_white_space(char32_t value);

/// `text` without the blanks Python's str.strip() removes (White_Space and U+001C..U+001F).
[[nodiscard]] std::string_view python_strip(std::string_view text);

}  // namespace dfmoa::data
