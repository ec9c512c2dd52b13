#include "src/train/cut_candidate.h"

#include <algorithm>
#include <tuple>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::train {
namespace {

constexpr std::size_t kWords = 6;  // of a candidate in a message

std::vector<double> as_message(const std::vector<CutCandidate>& candidates) {
  std::vector<double> words;
  for (const auto& one : candidates) {
    words.insert(words.end(), {one.probability, one.norm, static_cast<double>(one.id),
                               static_cast<double>(one.place[0]), static_cast<double>(one.place[1]),
                               static_cast<double>(one.place[2])});
  }
  return words;
}

CutCandidate from_message(const double* words) {
  const auto place = [&](std::size_t i) { return static_cast<std::size_t>(words[3 + i]); };
  return {words[0], words[1], static_cast<std::int64_t>(words[2]), {place(0), place(1), place(2)}};
}

}  // namespace

std::vector<CutCandidate> candidates_of_all(std::vector<CutCandidate> held,
                                            distributed::ExpertTransport& transport) {
  if (!transport.is_sharded()) return held;
  auto& comm = transport.mesh().experts();
  const auto places = static_cast<std::size_t>(comm.num_processes());
  const auto mine = static_cast<std::int64_t>(held.size());
  std::vector<std::int64_t> counts(places);
  comm.all_gather(&mine, 1, counts.data(), base::DType::i64, "cut/counts");
  const auto most = static_cast<std::size_t>(*std::max_element(counts.begin(), counts.end()));
  auto words = as_message(held);
  words.resize(most * kWords);
  std::vector<double> all(places * words.size());
  comm.all_gather(words.data(), static_cast<std::int64_t>(words.size()), all.data(),
                  base::DType::f64, "cut/candidates");
  std::vector<CutCandidate> candidates;
  for (std::size_t p = 0; p < places; ++p) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(counts[p]); ++c) {
      candidates.push_back(from_message(all.data() + (p * most + c) * kWords));
    }
  }
  std::sort(candidates.begin(), candidates.end(), [](const auto& x, const auto& y) {
    return std::tie(x.place, x.id) < std::tie(y.place, y.id);
  });
  return candidates;
}

void keep_best(std::vector<CutCandidate>& candidates, std::int64_t budget) {
  std::stable_sort(candidates.begin(), candidates.end(), [](const auto& x, const auto& y) {
    return std::tie(y.probability, y.norm, x.id) < std::tie(x.probability, x.norm, y.id);
  });
  const auto limit = static_cast<std::size_t>(budget);
  if (budget > 0 && candidates.size() > limit) candidates.resize(limit);
}

std::int64_t position_of(std::int64_t id, const std::vector<std::int64_t>& ids) {
  const auto found = std::lower_bound(ids.begin(), ids.end(), id);
  if (found != ids.end() && *found == id) return found - ids.begin();
  throw base::ShapeError(
      base::text("direction or dimension ", id, " is not among the ", ids.size(), " of its bank"));
}

}  // namespace dfmoa::train
