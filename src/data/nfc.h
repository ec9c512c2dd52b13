// Unicode normalisation form C with the way back to the source bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dfmoa::data {

/// A normalised text and where each of its bytes comes from.
struct NfcText {
  std::string text;
  std::vector<std::uint32_t> begin;  ///< per byte of `text`: where its source begins
  std::vector<std::uint32_t> end;    ///< per byte of `text`: where its source ends

  /// The source bytes of the non-empty range [from, to) of `text`.
  [[nodiscard]] std::pair<std::size_t, std::size_t> source_of(std::size_t from,
                                                              std::size_t to) const {
    return {begin[from], end[to - 1]};
  }
};

/// NFC of well-formed UTF-8; nothing if `text` already is in NFC.
/// Source  Unicode Standard Annex 15; the tables are made at build time from Python's unicodedata.
[[nodiscard]] std::optional<NfcText> nfc(std::string_view text);

}  // namespace dfmoa::data
