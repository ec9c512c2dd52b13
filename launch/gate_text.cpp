#include "launch/gate_text.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "src/base/text.h"
#include "src/data/token_text.h"

namespace dfmoa::launch {
std::vector<std::string> pieces_of(const data::Tokenizer& tokenizer,
                                   std::span<const std::int32_t> tokens) {
  data::TokenText text(tokenizer, /*skip_special=*/false);
  std::vector<std::string> pieces;
  for (const auto token : tokens) pieces.push_back(text.next(token));
  if (!pieces.empty()) pieces.back() += text.rest();
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
