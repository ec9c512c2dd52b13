#include "launch/token_printer.h"

#include <iostream>

#include "launch/gate_text.h"

namespace dfmoa::launch {

TokenPrinter::TokenPrinter(const data::Tokenizer& tokenizer, bool show_gates)
    : text_(tokenizer, /*skip_special=*/!show_gates),
      show_gates_(show_gates),
      has_colour_(shows_colour()) {}

void TokenPrinter::print(std::int32_t token, std::span<const float> gates) {
  std::cout << marked(text_.next(token), show_gates_ ? gates : std::span<const float>(),
                      has_colour_)
            << std::flush;
}

void TokenPrinter::end() {
  std::cout << text_.rest() << std::endl;
}

}  // namespace dfmoa::launch
