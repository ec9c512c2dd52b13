#include "src/data/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {
namespace {

constexpr std::size_t kStackStart = std::size_t{32} << 10;
constexpr std::size_t kStackMost = std::size_t{64} << 20;

std::string words_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

[[noreturn]] void refuse(std::string_view pattern, std::size_t at, std::string_view why) {
  throw base::ContentError(
      base::text("split pattern '", pattern, "' at character ", at, ": ", why));
}

/// One escape of Oniguruma in PCRE2's words. PCRE2's \s also holds U+180E and its \w lacks marks.
std::string translate_escape(std::string_view pattern, std::size_t at, bool in_class) {
  constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
  const char name = pattern[at + 1];
  if (name == 's') return "\\p{White_Space}";
  if (name == 'S') return "\\P{White_Space}";
  if (name == 'w') return in_class ? std::string(kWord) : base::text('[', kWord, ']');
  if (name == 'W' && !in_class) return base::text("[^", kWord, ']');
  if (name == 'u') return base::text("\\x{", pattern.substr(at + 2, 4), '}');
  if (name == 'W' || name == 'h' || name == 'H') {
    refuse(pattern, at,
           base::text("\\", name, in_class ? " in a class" : "",
                      " is not implemented; write the class out"));
  }
  return std::string(pattern.substr(at, 2));
}

std::string translate(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c == '\\' && at + 1 < pattern.size()) {
      out += translate_escape(pattern, at, in_class);
      at += pattern[at + 1] == 'u' ? 5 : 1;
      continue;
    }
    if (in_class && c == '&' && pattern.substr(at, 2) == "&&") {
      refuse(pattern, at, "the intersection of classes (&&) is not implemented");
    }
    if (in_class && c == '[' && pattern.substr(at, 2) != "[:") {
      refuse(pattern, at, "a class inside a class is not implemented; write the class out");
    }
    out += c;
    if (c == '[' && pattern.substr(at, 2) == "[:" && in_class) {
      const std::size_t end = pattern.find(":]", at);
      if (end == std::string_view::npos) refuse(pattern, at, "'[:' has no ':]'");
      out += pattern.substr(at + 1, end + 1 - at);
      at = end + 1;
    } else if (c == '[') {
      in_class = true;
      if (pattern.substr(at + 1, 1) == "^") out += pattern[++at];
      if (pattern.substr(at + 1, 1) == "]") out += pattern[++at];  // a ] in first place is itself
    } else if (c == ']') {
      in_class = false;
    }
  }
  return out;
}

}  // namespace

void MatchScratch::Free::operator()(pcre2_match_data* data) const noexcept {
  pcre2_match_data_free(data);
}
void MatchScratch::Free::operator()(pcre2_match_context* context) const noexcept {
  pcre2_match_context_free(context);
}
void MatchScratch::Free::operator()(pcre2_jit_stack* stack) const noexcept {
  pcre2_jit_stack_free(stack);
}
void SplitPattern::Free::operator()(pcre2_code* code) const noexcept {
  pcre2_code_free(code);
}

MatchScratch::MatchScratch()
    : stack_(pcre2_jit_stack_create(kStackStart, kStackMost, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      data_(pcre2_match_data_create(1, nullptr)) {
  // The stack is absent where PCRE2 was built without JIT; the interpreter needs none.
  if (!context_ || !data_) throw base::MachineError("split pattern: no memory for matching");
  if (stack_) pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
}

SplitPattern::SplitPattern(std::string_view pattern) {
  check_utf8(pattern, "split pattern");
  const std::string translated = translate(pattern);
  int code = 0;
  PCRE2_SIZE at = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &at, nullptr));
  if (!code_) refuse(pattern, at, words_of(code));
  code = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
  is_jit_ = code == 0;
  if (code != 0 && code != PCRE2_ERROR_JIT_BADOPTION) refuse(pattern, 0, words_of(code));
}

std::string SplitPattern::literal(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                          (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
    if (c == '\n') {
      out += "\\n";
    } else {
      if (!is_plain) out += '\\';
      out += c;
    }
  }
  return out;
}

std::optional<SplitPattern::Range> SplitPattern::find(std::string_view subject, std::size_t from,
                                                      MatchScratch& scratch) const {
  const auto* bytes = reinterpret_cast<PCRE2_SPTR>(subject.data());
  const int found = is_jit_
                        ? pcre2_jit_match(code_.get(), bytes, subject.size(), from, 0,
                                          scratch.data_.get(), scratch.context_.get())
                        : pcre2_match(code_.get(), bytes, subject.size(), from, PCRE2_NO_UTF_CHECK,
                                      scratch.data_.get(), scratch.context_.get());
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw base::ContentError(base::text("split pattern: matching a text of ", subject.size(),
                                        " bytes from byte ", from, " failed: ", words_of(found)));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch.data_.get());
  return Range{ends[0], ends[1]};
}

}  // namespace dfmoa::data
