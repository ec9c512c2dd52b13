// Text of tokens that come one by one.
#pragma once

#include <cstdint>
#include <string>

#include "src/data/tokenizer.h"

namespace dfmoa::data {

/// A token may end inside a character, which then waits for the next one. All that is returned, one
/// after the other, is what Tokenizer::decode makes of all tokens.
class TokenText {
 public:
  /// The tokenizer must outlive it. `skip_special`: as in Tokenizer::decode.
  explicit TokenText(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  /// What can be said after one more token. Throws ContentError as Tokenizer::decode.
  [[nodiscard]] std::string next(std::int32_t token);

  /// What is left at the end: U+FFFD for a character that did not come whole.
  [[nodiscard]] std::string rest();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string waiting_;
};

}  // namespace dfmoa::data
