#include "src/data/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "src/data/utf8.h"

namespace dfmoa::data {
namespace {

constexpr std::uint16_t kNoByte = 0xFFFF;
constexpr std::size_t kLetters = 256 + 68;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<std::uint16_t, 256> letter_of_byte{};
  std::array<std::uint16_t, kLetters> byte_of_letter{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.byte_of_letter) byte = kNoByte;
  std::uint16_t next = 256;
  for (std::uint16_t byte = 0; byte < 256; ++byte) {
    const std::uint16_t letter = stands_for_itself(byte) ? byte : next++;
    alphabet.letter_of_byte[byte] = letter;
    alphabet.byte_of_letter[letter] = byte;
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::optional<std::string> bytes_of_written(std::string_view written) {
  std::string bytes;
  for (std::size_t at = 0; at < written.size();) {
    const CodePoint letter = code_point_at(written, at);
    at += letter.length;
    if (letter.value >= kLetters || kAlphabet.byte_of_letter[letter.value] == kNoByte) return {};
    bytes += static_cast<char>(kAlphabet.byte_of_letter[letter.value]);
  }
  return bytes;
}

std::string written_of_bytes(std::string_view bytes) {
  std::string written;
  for (const char byte : bytes) {
    const unsigned letter = kAlphabet.letter_of_byte[static_cast<unsigned char>(byte)];
    if (letter < 0x80) {
      written += static_cast<char>(letter);
    } else {
      written += static_cast<char>(0xC0 | letter >> 6);
      written += static_cast<char>(0x80 | (letter & 0x3F));
    }
  }
  return written;
}

}  // namespace dfmoa::data
