#include "src/data/census.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {

Census take_census(const std::vector<std::string>& paths, const SampleReader& reader) {
  const JsonlFiles files(paths);
  Census census;
  for (std::int64_t index = 0; index < files.count(); ++index) {
    Sample sample;
    try {
      sample = reader.read(files.line(index));
    } catch (const base::ContentError& error) {
      if (!reader.config().skip_bad_lines) throw;
      if (census.bad_lines++ == 0) census.first_bad = error.what();
      continue;
    }
    const auto length = static_cast<std::int64_t>(sample.token.size());
    census.samples += 1;
    census.tokens += length;
    // The first token of a document is nobody's target.
    census.loss_tokens += std::count(sample.trained.begin() + 1, sample.trained.end(), 1);
    census.without_span += sample.span_begin == sample.span_end ? 1 : 0;
    if (length > census.longest) {
      census.longest = length;
      census.longest_where = sample.where;
    }
  }
  return census;
}

std::string describe(const Census& census) {
  auto sentence =
      base::text(census.samples, " samples, ", census.tokens, " tokens (", census.loss_tokens,
                 " bear loss), the longest ", census.longest, " (", census.longest_where, ")");
  if (census.bad_lines > 0) {
    sentence +=
        base::text(", ", census.bad_lines, " bad lines skipped, the first: ", census.first_bad);
  }
  return sentence;
}

}  // namespace dfmoa::data
