#include "distributed/routed_rows.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

namespace dfmoa::distributed {

std::int64_t gate_columns(const model::BlockAdapters& whole, int group) {
  std::int64_t columns = whole.copies;
  for (const auto& router : whole.routers) {
    const bool serves = router.group == group || router.group < 0;
    if (serves && !router.of_heads && !router.config.mixes_logits()) columns += router.experts;
  }
  return columns > 0 && whole.has_ungated ? columns + 1 : columns;
}

namespace {

/// Of `experts` that are equally likely, `top_k` are chosen: the chance of one among `here`.
double chance_of_any(std::int64_t experts, std::int64_t top_k, std::int64_t here) {
  double none = 1;
  for (std::int64_t k = 0; k < top_k; ++k) {
    none *=
        std::max(0.0, static_cast<double>(experts - here - k)) / static_cast<double>(experts - k);
  }
  return 1 - none;
}

/// Experts with directions that `place` owns, by gate column.
std::vector<std::int64_t> columns_of(const BlockLayout& block, int group, int place) {
  std::vector<std::int64_t> columns;
  for (const auto& site : block.whole.groups[static_cast<std::size_t>(group)].sites) {
    for (std::int64_t e = 0; e < site.experts(); ++e) {
      const bool is_here = site.rank_E[static_cast<std::size_t>(e)] > 0 &&
                           block.owners.units.at(unit_name(site, e)) == place;
      if (is_here) columns.push_back(site.column + e);
    }
  }
  std::sort(columns.begin(), columns.end());
  columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
  return columns;
}

}  // namespace

double share_of_tokens(const BlockLayout& block, int group, int place) {
  const auto columns = columns_of(block, group, place);
  if (columns.empty()) return 0;
  if (gate_columns(block.whole, group) == 0) return 1;
  const auto inside = [&](std::int64_t begin, std::int64_t count) {
    return std::count_if(columns.begin(), columns.end(),
                         [&](auto c) { return c >= begin && c < begin + count; });
  };
  const auto copies = block.whole.copies;
  if (copies > 0) return static_cast<double>(inside(0, copies)) / static_cast<double>(copies);
  double none = 1;
  std::int64_t begin = 0;
  for (const auto& router : block.whole.routers) {
    const bool serves = router.group == group || router.group < 0;
    if (!serves || router.of_heads) continue;
    const auto here = inside(begin, router.experts);
    begin += router.experts;
    if (here == 0) continue;
    if (!router.config.kind.starts_with("topk")) return 1;
    none *= 1 - chance_of_any(router.experts, router.config.top_k, here);
  }
  return inside(begin, 1) > 0 ? 1 : 1 - none;  // the column of ones
}

Routing expected_routing(std::function<std::int64_t(int, std::int64_t)> tokens, int place,
                         int places) {
  // Micro-batches and passes ask for the same blocks again.
  using Shares = std::map<std::pair<const BlockLayout*, int>, std::vector<double>>;
  const auto known = std::make_shared<Shares>();
  return [=, tokens = std::move(tokens)](std::int64_t slot, const BlockLayout& block, int group) {
    auto& shares = (*known)[{&block, group}];
    for (int at = static_cast<int>(shares.size()); at < places; ++at) {
      shares.push_back(share_of_tokens(block, group, at));
    }
    const auto here = shares[static_cast<std::size_t>(place)];
    RoutedRows rows;
    for (int other = 0; other < places; ++other) {
      const auto there = shares[static_cast<std::size_t>(other)];
      rows.sent.push_back(std::llround(there * static_cast<double>(tokens(place, slot))));
      rows.received.push_back(std::llround(here * static_cast<double>(tokens(other, slot))));
    }
    return rows;
  };
}

}  // namespace dfmoa::distributed
