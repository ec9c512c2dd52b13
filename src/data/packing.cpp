#include "src/data/packing.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {

std::int64_t PackedRow::loss_tokens() const {
  return std::count_if(target_T.begin(), target_T.end(), [](auto target) { return target >= 0; });
}

void PackedRow::append(const Sample& sample, std::int64_t id, std::int64_t begin,
                       std::int64_t end) {
  const auto length = static_cast<std::int64_t>(sample.token.size());
  if (begin < 0 || begin >= end || end > length) {
    throw base::ShapeError(base::text("packing ", sample.where, ": tokens [", begin, ", ", end,
                                      ") of ", length, " were asked for"));
  }
  const auto first = tokens();
  const auto in_row = [&](std::int64_t position) {
    return first + std::clamp(position, begin, end) - begin;
  };
  for (auto t = begin; t < end; ++t) {
    const auto next = static_cast<std::size_t>(t + 1);
    token_T.push_back(sample.token[static_cast<std::size_t>(t)]);
    position_T.push_back(t - begin);
    const bool is_trained = next < sample.token.size() && sample.trained[next] != 0;
    target_T.push_back(is_trained ? sample.token[next] : -1);
  }
  document_begin.push_back(first + end - begin);
  document_id.push_back(id);
  prompt_end.push_back(in_row(std::max<std::int64_t>(sample.prompt_tokens - 1, 0)));
  span_begin.push_back(in_row(sample.span_begin));
  span_end.push_back(in_row(sample.span_end));
  task.push_back(sample.task);
  where.push_back(sample.where);
}

}  // namespace dfmoa::data
