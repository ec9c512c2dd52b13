#include "src/data/utf8.h"

#include <cstdint>
#include <cstring>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {
namespace {

unsigned byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

/// Bytes of the well-formed sequence at `at`; if there is none, 0, and `bad` is set to the number
/// of bytes of the maximal ill-formed part.
std::size_t sequence_length(std::string_view text, std::size_t at, std::size_t& bad) {
  const unsigned first = byte_at(text, at);
  bad = 1;
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // Overlong forms, surrogates and values above U+10FFFF narrow the second byte's range.
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i >= text.size()) return 0;
    const unsigned next = byte_at(text, at + i);
    if (next < (i == 1 ? low : 0x80U) || next > (i == 1 ? high : 0xBFU)) return 0;
    bad = i + 1;
  }
  return length;
}

}  // namespace

std::size_t valid_utf8_prefix(std::string_view text) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080ULL;
  std::size_t at = 0;
  std::size_t bad = 0;
  while (at < text.size()) {
    if (at + 8 <= text.size()) {
      std::uint64_t eight = 0;
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & kHighBits) == 0) {
        at += 8;
        continue;
      }
    }
    const std::size_t length = sequence_length(text, at, bad);
    if (length == 0) return at;
    at += length;
  }
  return at;
}

void check_utf8(std::string_view text, std::string_view what) {
  const std::size_t valid = valid_utf8_prefix(text);
  if (valid == text.size()) return;
  constexpr std::string_view kDigits = "0123456789abcdef";
  const unsigned byte = byte_at(text, valid);
  throw base::ContentError(base::text(what, ": byte ", valid, " of ", text.size(), " (0x",
                                      kDigits[byte >> 4], kDigits[byte & 15],
                                      ") is not part of well-formed UTF-8"));
}

CodePoint code_point_at(std::string_view text, std::size_t at) {
  const unsigned first = byte_at(text, at);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  char32_t value = first & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) value = value << 6 | (byte_at(text, at + i) & 0x3F);
  return {value, length};
}

CodePoint code_point_before(std::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && (byte_at(text, at) & 0xC0) == 0x80) --at;
  return code_point_at(text, at);
}

std::string with_replacement_characters(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t valid = valid_utf8_prefix(text);
    out += text.substr(0, valid);
    if (valid == text.size()) break;
    std::size_t bad = 0;
    static_cast<void>(sequence_length(text, valid, bad));
    out += "\xEF\xBF\xBD";
    text.remove_prefix(valid + bad);
  }
  return out;
}

bool is_white_space(char32_t value) {
  if (value < 0x80) return value == ' ' || (value >= 0x09 && value <= 0x0D);
  return value == 0x85 || value == 0xA0 || value == 0x1680 ||
         (value >= 0x2000 && value <= 0x200A) || value == 0x2028 || value == 0x2029 ||
         value == 0x202F || value == 0x205F || value == 0x3000;
}

std::string_view python_strip(std::string_view text) {
  const auto strips = [](char32_t value) {
    return is_white_space(value) || (value >= 0x1C && value <= 0x1F);
  };
  while (!text.empty()) {
    const CodePoint first = code_point_at(text, 0);
    if (!strips(first.value)) break;
    text.remove_prefix(first.length);
  }
  while (!text.empty()) {
    const CodePoint last = code_point_before(text, text.size());
    if (!strips(last.value)) break;
    text.remove_suffix(last.length);
  }
  return text;
}

}  // namespace dfmoa::data
