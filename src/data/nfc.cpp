#include "src/data/nfc.h"

#include <algorithm>
#include <iterator>

#include "src/data/utf8.h"

namespace dfmoa::data {
namespace {

struct CombiningClass {
  char32_t value;
  unsigned char combining;
};
struct Decomposition {
  char32_t value;
  char32_t first;
  char32_t second;  ///< 0: a single code point
};
struct Composition {
  char32_t first;
  char32_t second;
  char32_t value;
};

#include "nfc_tables.inc"

constexpr char32_t kFirstUncertain = 0x300;  // all code points below are in NFC whatever follows
constexpr char32_t kHangulBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161,
                   kTailBase = 0x11A7;
constexpr char32_t kLeads = 19, kVowels = 21, kTails = 28;

/// A code point on its way and the source bytes it stands for.
struct Piece {
  char32_t value;
  unsigned char combining;
  std::uint32_t begin;
  std::uint32_t end;
};

unsigned char combining_class(char32_t value) {
  if (value < kFirstUncertain) return 0;
  const auto* found = std::lower_bound(
      std::begin(kCombiningClasses), std::end(kCombiningClasses), value,
      [](const CombiningClass& row, char32_t wanted) { return row.value < wanted; });
  return found != std::end(kCombiningClasses) && found->value == value
             ? found->combining
             : static_cast<unsigned char>(0);
}

void decompose(char32_t value, std::uint32_t begin, std::uint32_t end, std::vector<Piece>& out) {
  const char32_t syllable = value - kHangulBase;
  if (value >= kHangulBase && syllable < kLeads * kVowels * kTails) {
    out.push_back({kLeadBase + syllable / (kVowels * kTails), 0, begin, end});
    out.push_back({kVowelBase + syllable % (kVowels * kTails) / kTails, 0, begin, end});
    if (syllable % kTails != 0) out.push_back({kTailBase + syllable % kTails, 0, begin, end});
    return;
  }
  const auto* found = std::lower_bound(
      std::begin(kDecompositions), std::end(kDecompositions), value,
      [](const Decomposition& row, char32_t wanted) { return row.value < wanted; });
  if (found == std::end(kDecompositions) || found->value != value) {
    out.push_back({value, combining_class(value), begin, end});
    return;
  }
  decompose(found->first, begin, end, out);
  if (found->second != 0) decompose(found->second, begin, end, out);
}

/// 0 if the two do not compose.
char32_t compose(char32_t first, char32_t second) {
  if (first - kLeadBase < kLeads && second - kVowelBase < kVowels) {
    return kHangulBase + ((first - kLeadBase) * kVowels + second - kVowelBase) * kTails;
  }
  if (first - kHangulBase < kLeads * kVowels * kTails && (first - kHangulBase) % kTails == 0 &&
      second - kTailBase - 1 < kTails - 1) {
    return first + second - kTailBase;
  }
  const std::pair wanted(first, second);
  const auto* found = std::lower_bound(std::begin(kCompositions), std::end(kCompositions), wanted,
                                       [](const Composition& row, const auto& key) {
                                         return std::pair(row.first, row.second) < key;
                                       });
  return found != std::end(kCompositions) && std::pair(found->first, found->second) == wanted
             ? found->value
             : 0;
}

/// Puts runs of combining marks into canonical order.
void reorder(std::vector<Piece>& pieces) {
  for (auto from = pieces.begin(); from != pieces.end();) {
    const auto to =
        std::find_if(from, pieces.end(), [](const Piece& p) { return p.combining == 0; });
    std::stable_sort(from, to,
                     [](const Piece& a, const Piece& b) { return a.combining < b.combining; });
    from = std::find_if(to, pieces.end(), [](const Piece& p) { return p.combining != 0; });
  }
}

std::vector<Piece> composed(const std::vector<Piece>& pieces) {
  std::vector<Piece> out;
  std::size_t starter = 0;
  bool has_starter = false;
  unsigned char last_class = 0;
  for (const Piece& piece : pieces) {
    // A mark is blocked from its starter by an equal or higher class between them.
    const bool is_adjacent = has_starter && starter + 1 == out.size();
    if (has_starter && (is_adjacent || last_class < piece.combining)) {
      if (const char32_t value = compose(out[starter].value, piece.value)) {
        out[starter].value = value;
        out[starter].begin = std::min(out[starter].begin, piece.begin);
        out[starter].end = std::max(out[starter].end, piece.end);
        continue;
      }
    }
    if (piece.combining == 0) {
      starter = out.size();
      has_starter = true;
    }
    last_class = piece.combining;
    out.push_back(piece);
  }
  return out;
}

void append_utf8(char32_t value, std::string& out) {
  const auto tail = [&](unsigned shift) {
    out += static_cast<char>(0x80 | (value >> shift & 0x3F));
  };
  if (value < 0x80) {
    out += static_cast<char>(value);
  } else if (value < 0x800) {
    out += static_cast<char>(0xC0 | value >> 6);
    tail(0);
  } else if (value < 0x10000) {
    out += static_cast<char>(0xE0 | value >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | value >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

/// True if all code points lie below the first that could need work: UTF-8 lead bytes < 0xCC.
bool is_surely_nfc(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char byte) { return static_cast<unsigned char>(byte) < 0xCC; });
}

}  // namespace

std::optional<NfcText> nfc(std::string_view text) {
  if (is_surely_nfc(text)) return std::nullopt;
  std::vector<Piece> pieces;
  pieces.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    decompose(point.value, static_cast<std::uint32_t>(at),
              static_cast<std::uint32_t>(at + point.length), pieces);
    at += point.length;
  }
  reorder(pieces);
  NfcText out;
  for (const Piece& piece : composed(pieces)) {
    append_utf8(piece.value, out.text);
    out.begin.resize(out.text.size(), piece.begin);
    out.end.resize(out.text.size(), piece.end);
  }
  if (out.text == text) return std::nullopt;
  return out;
}

}  // namespace dfmoa::data
