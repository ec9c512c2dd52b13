#include "launch/token_printer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

namespace dfmoa::launch {

TokenPrinter::TokenPrinter(const data::Tokenizer& tokenizer, bool show_gates)
    : text_(tokenizer, /*skip_special=*/!show_gates),
      show_gates_(show_gates),
      has_colour_(::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr) {}

void TokenPrinter::print(std::int32_t token, std::span<const float> gates) {
  const auto text = text_.next(token);
  if (!show_gates_ || gates.empty()) {
    std::cout << text << std::flush;
    return;
  }
  const auto expert = std::max_element(gates.begin(), gates.end()) - gates.begin();
  if (has_colour_) {
    std::cout << "\033[3" << 1 + expert % 6 << "m" << text << "\033[0m" << std::flush;
  } else {
    std::cout << text << "{" << expert << "}" << std::flush;
  }
}

void TokenPrinter::end() {
  std::cout << text_.rest() << std::endl;
}

}  // namespace dfmoa::launch
