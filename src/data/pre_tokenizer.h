// Cuts text into the words that byte-pair merging works on.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/data/split_pattern.h"

namespace dfmoa::data {

/// What becomes of a match: tokenizers' SplitDelimiterBehavior.
enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

/// A match or the gap between two.
struct SplitRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool is_match = false;
};

/// Rewrites `ranges`, which tile a text in order, as `behavior` says.
void apply_behavior(SplitBehavior behavior, std::vector<SplitRange>& ranges);

struct SplitStep {
  SplitPattern pattern;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;  ///< what does not match counts as the match
};

/// A word: `bytes`, of which the first `prefix` (0 or 1) are no part of the text; the others begin
/// at `begin` of the text.
struct Word {
  std::string_view bytes;
  std::size_t begin = 0;
  std::size_t prefix = 0;
};

/// Steps one after the other; at the place `prefix_step` a blank is put before every piece that
/// does not start with one (ByteLevel's add_prefix_space).
class PreTokenizer {
 public:
  static constexpr std::size_t kNoPrefix = static_cast<std::size_t>(-1);

  PreTokenizer(std::vector<SplitStep> steps, std::size_t prefix_step)
      : steps_(std::move(steps)), prefix_step_(prefix_step) {}

  /// Calls visit(Word) for every non-empty word of `text` in order. The text is well-formed UTF-8.
  template <class Visit>
  void for_each_word(std::string_view text, MatchScratch& scratch, Visit&& visit) const {
    run({text, 0, 0}, 0, scratch, visit);
  }

 private:
  template <class Visit>
  void run(const Word& piece, std::size_t step, MatchScratch& scratch, Visit& visit) const {
    if (piece.bytes.empty()) return;
    if (step == prefix_step_ && piece.prefix == 0 && piece.bytes[0] != ' ') {
      const std::string prefixed = ' ' + std::string(piece.bytes);
      run_step({prefixed, piece.begin, 1}, step, scratch, visit);
    } else {
      run_step(piece, step, scratch, visit);
    }
  }

  template <class Visit>
  void run_step(const Word& piece, std::size_t step, MatchScratch& scratch, Visit& visit) const {
    if (step == steps_.size()) {
      visit(piece);
      return;
    }
    const SplitStep& split = steps_[step];
    const auto next = [&](std::size_t begin, std::size_t end) {
      const std::size_t prefix = begin < piece.prefix ? piece.prefix - begin : 0;
      const std::size_t skipped = begin < piece.prefix ? 0 : begin - piece.prefix;
      run({piece.bytes.substr(begin, end - begin), piece.begin + skipped, prefix}, step + 1,
          scratch, visit);
    };
    if (split.behavior == SplitBehavior::isolated) {
      split.pattern.for_each(piece.bytes, scratch,
                             [&](std::size_t begin, std::size_t end, bool) { next(begin, end); });
      return;
    }
    std::vector<SplitRange> ranges;
    split.pattern.for_each(piece.bytes, scratch,
                           [&](std::size_t begin, std::size_t end, bool is_match) {
                             ranges.push_back({begin, end, is_match != split.invert});
                           });
    apply_behavior(split.behavior, ranges);
    for (const SplitRange& range : ranges) next(range.begin, range.end);
  }

  std::vector<SplitStep> steps_;
  std::size_t prefix_step_ = kNoPrefix;
};

}  // namespace dfmoa::data
