#include "src/data/token_text.h"

#include <utility>

#include "src/data/utf8.h"

namespace dfmoa::data {
namespace {

/// Bytes of the character that a lead byte begins; 0 for any other byte.
std::size_t length_of(unsigned char lead) {
  if (lead < 0xC2 || lead > 0xF4) return 0;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/// Bytes at the end of `text` that may begin a character.
std::size_t unfinished(const std::string& text) {
  for (std::size_t size = 1; size <= std::min<std::size_t>(3, text.size()); ++size) {
    const auto byte = static_cast<unsigned char>(text[text.size() - size]);
    if (length_of(byte) > size) return size;
    if ((byte & 0xC0U) != 0x80U) return 0;  // no byte that goes on with a character
  }
  return 0;
}

}  // namespace

std::string TokenText::next(std::int32_t token) {
  const auto& bytes = tokenizer_.bytes_of(token);
  if (skip_special_ && tokenizer_.is_special(token)) return {};
  waiting_ += bytes;
  const auto kept = waiting_.substr(waiting_.size() - unfinished(waiting_));
  waiting_.resize(waiting_.size() - kept.size());
  return with_replacement_characters(std::exchange(waiting_, kept));
}

std::string TokenText::rest() {
  return with_replacement_characters(std::exchange(waiting_, {}));
}

}  // namespace dfmoa::data
