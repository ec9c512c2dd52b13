// Generated tokens on stdout, one by one, with their strongest expert where it is asked for.
#pragma once

#include <cstdint>
#include <span>

#include "src/data/token_text.h"

namespace dfmoa::launch {

/// Whole characters only. With gates every token is followed by "{e}", e being its strongest
/// expert, or has that expert's colour on a terminal; special tokens are shown then.
class TokenPrinter {
 public:
  /// The tokenizer must outlive it.
  TokenPrinter(const data::Tokenizer& tokenizer, bool show_gates);

  void print(std::int32_t token, std::span<const float> gates);
  /// What is left of a character, and the line's end.
  void end();

 private:
  data::TokenText text_;
  bool show_gates_;
  bool has_colour_;
};

}  // namespace dfmoa::launch
