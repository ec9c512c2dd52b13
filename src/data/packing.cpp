#include "src/data/packing.h"

#include <algorithm>

namespace dfmoa::data {

std::int64_t PackedRow::loss_tokens() const {
  return std::count_if(target_T.begin(), target_T.end(), [](auto target) { return target >= 0; });
}

void PackedRow::append(const Sample& sample, std::int64_t id, std::int64_t begin,
                       std::int64_t end) {
  const auto base = tokens();
  const auto clip = [&](std::int64_t position) {
    return base + std::clamp(position, begin, end) - begin;
  };
  for (auto t = begin; t < end; ++t) {
    const auto next = static_cast<std::size_t>(t + 1);
    token_T.push_back(sample.token[static_cast<std::size_t>(t)]);
    position_T.push_back(t - begin);
    // The last token of a split piece predicts the first of the next piece: it is a target too.
    const bool trained = next < sample.token.size() && sample.trained[next] != 0;
    target_T.push_back(trained ? sample.token[next] : -1);
  }
  document_begin.push_back(base + end - begin);
  document_id.push_back(id);
  prompt_end.push_back(clip(std::max<std::int64_t>(sample.prompt_tokens - 1, 0)));
  span_begin.push_back(clip(sample.span_begin));
  span_end.push_back(clip(sample.span_end));
  task.push_back(sample.task);
  where.push_back(sample.where);
}

}  // namespace dfmoa::data
