#include "src/data/pre_tokenizer.h"

#include <algorithm>

namespace dfmoa::data {
namespace {

/// A match joins the range before it, unless that one is a match too.
std::vector<SplitRange> merged_with_previous(const std::vector<SplitRange>& ranges) {
  std::vector<SplitRange> out;
  bool after_match = false;
  for (const SplitRange& range : ranges) {
    if (range.is_match && !after_match && !out.empty()) {
      out.back().end = range.end;
    } else {
      out.push_back(range);
    }
    after_match = range.is_match;
  }
  return out;
}

std::vector<SplitRange> merged_with_next(const std::vector<SplitRange>& ranges) {
  std::vector<SplitRange> out;
  bool before_match = false;
  for (auto range = ranges.rbegin(); range != ranges.rend(); ++range) {
    if (range->is_match && !before_match && !out.empty()) {
      out.back().begin = range->begin;
    } else {
      out.push_back(*range);
    }
    before_match = range->is_match;
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<SplitRange> contiguous(const std::vector<SplitRange>& ranges) {
  std::vector<SplitRange> out;
  for (const SplitRange& range : ranges) {
    if (!out.empty() && out.back().is_match == range.is_match) {
      out.back().end = range.end;
    } else {
      out.push_back(range);
    }
  }
  return out;
}

}  // namespace

void apply_behavior(SplitBehavior behavior, std::vector<SplitRange>& ranges) {
  switch (behavior) {
    case SplitBehavior::isolated:
      return;
    case SplitBehavior::removed:
      std::erase_if(ranges, [](const SplitRange& range) { return range.is_match; });
      return;
    case SplitBehavior::merged_with_previous:
      ranges = merged_with_previous(ranges);
      return;
    case SplitBehavior::merged_with_next:
      ranges = merged_with_next(ranges);
      return;
    case SplitBehavior::contiguous:
      ranges = contiguous(ranges);
      return;
  }
}

}  // namespace dfmoa::data
