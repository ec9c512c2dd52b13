// Regular expressions of tokenizers on PCRE2 (UTF, UCP, JIT): successive matches and their gaps.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "src/data/utf8.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace dfmoa::data {

/// What one matching thread needs; any number of patterns may use it, one after the other.
class MatchScratch {
 public:
  /// Throws MachineError when memory is short.
  MatchScratch();

 private:
  friend class SplitPattern;
  struct Free {
    void operator()(pcre2_real_match_data_8* data) const noexcept;
    void operator()(pcre2_real_match_context_8* context) const noexcept;
    void operator()(pcre2_real_jit_stack_8* stack) const noexcept;
  };
  std::unique_ptr<pcre2_real_jit_stack_8, Free> stack_;
  std::unique_ptr<pcre2_real_match_context_8, Free> context_;
  std::unique_ptr<pcre2_real_match_data_8, Free> data_;
};

/// A compiled pattern; immutable, so threads may share it.
///
/// The dialect is Oniguruma's, which tokenizer files are written for: \s, \w and \u are translated
/// to what Oniguruma means by them, ^ and $ match at every line, \h and && in a class are refused.
class SplitPattern {
 public:
  struct Range {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  /// Throws ContentError, with PCRE2's words and the place, when the pattern is not understood.
  explicit SplitPattern(std::string_view pattern);

  /// A pattern that matches exactly `text`.
  [[nodiscard]] static std::string literal(std::string_view text);

  /// The first match at or after `from`. The subject must be well-formed UTF-8 (check_utf8): PCRE2
  /// is told not to look again. Throws ContentError when a limit of PCRE2 is reached.
  [[nodiscard]] std::optional<Range> find(std::string_view subject, std::size_t from,
                                          MatchScratch& scratch) const;

  /// Calls visit(begin, end, is_match) for gaps and matches in order; together they are `subject`.
  /// Empty matches are visited too, for they separate two gaps. The subject is as for find.
  template <class Visit>
  void for_each(std::string_view subject, MatchScratch& scratch, Visit&& visit) const {
    std::size_t done = 0;
    std::size_t from = 0;
    bool found_before = false;
    while (from <= subject.size()) {
      const std::optional<Range> match = find(subject, from, scratch);
      if (!match) break;
      if (match->begin == match->end && found_before && match->end == done) {
        // An empty match where the last one ended is no match; the search goes on behind it.
        from = done < subject.size() ? done + code_point_at(subject, done).length : done + 1;
        continue;
      }
      if (match->begin > done) visit(done, match->begin, false);
      visit(match->begin, match->end, true);
      done = from = match->end;
      found_before = true;
    }
    if (done < subject.size()) visit(done, subject.size(), false);
  }

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const noexcept;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
  bool is_jit_ = false;
};

}  // namespace dfmoa::data
