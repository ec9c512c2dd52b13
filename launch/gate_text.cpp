#include "launch/gate_text.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "src/base/text.h"
#include "src/data/utf8.h"

namespace dfmoa::launch {
namespace {

/// Bytes of `text` before a character that has begun and may go on.
std::size_t whole_characters(const std::string& text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0U) == 0x80U) continue;  // inside a character
    const std::size_t length = byte >= 0xF0U ? 4 : byte >= 0xE0U ? 3 : byte >= 0xC0U ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

}  // namespace

std::vector<std::string> pieces_of(const data::Tokenizer& tokenizer,
                                   std::span<const std::int32_t> tokens) {
  std::vector<std::string> pieces;
  std::string held;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    held += tokenizer.bytes_of(tokens[t]);
    const auto end = t + 1 == tokens.size() ? held.size() : whole_characters(held);
    pieces.push_back(data::with_replacement_characters(held.substr(0, end)));
    held.erase(0, end);
  }
  return pieces;
}

bool shows_colour() {
  return ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
}

std::string marked(const std::string& piece, std::span<const float> gates, bool colour) {
  if (gates.empty()) return piece;
  const auto expert = std::max_element(gates.begin(), gates.end()) - gates.begin();
  return colour ? base::text("\033[3", 1 + expert % 6, "m", piece, "\033[0m")
                : base::text(piece, "{", expert, "}");
}

}  // namespace dfmoa::launch
