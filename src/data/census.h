// What a data set holds, counted before a run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/data/sample.h"

namespace dfmoa::data {

struct Census {
  std::int64_t samples = 0;
  std::int64_t bad_lines = 0;  ///< passed over (data.skip_bad_lines)
  std::int64_t tokens = 0;
  std::int64_t loss_tokens = 0;
  std::int64_t without_span = 0;  ///< no instruction is marked: scope span reads the whole prompt
  std::int64_t longest = 0;       ///< tokens of the longest document
  std::string longest_where;
  std::string first_bad;  ///< the sentence about the first bad line
};

/// Reads every line once. Throws what JsonlFiles and SampleReader throw.
[[nodiscard]] Census take_census(const std::vector<std::string>& paths, const SampleReader& reader);

/// "9000 samples, 180000 tokens (72000 bear loss), ..., 2 bad lines skipped".
[[nodiscard]] std::string describe(const Census& census);

}  // namespace dfmoa::data
