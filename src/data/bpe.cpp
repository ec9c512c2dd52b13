#include "src/data/bpe.h"

#include <algorithm>
#include <bit>

namespace dfmoa::data {
namespace {

// From here on the heap is faster than scanning all pairs after every merge.
constexpr std::size_t kLongWord = 64;
constexpr std::uint32_t kGone = 0xFFFFFFFFU;

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

std::size_t slot_of(std::uint64_t key, unsigned shift) {
  return static_cast<std::size_t>((key ^ key >> 32) * 0x9E3779B97F4A7C15ULL >> shift);
}

}  // namespace

BpeMerges::BpeMerges(const std::vector<Pair>& in_rank_order) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(in_rank_order.size() * 2, 16));
  shift_ = 64U - static_cast<unsigned>(std::countr_zero(size));
  table_.resize(size);
  for (std::size_t rank = 0; rank < in_rank_order.size(); ++rank) {
    const Pair& pair = in_rank_order[rank];
    const std::uint64_t key = pair_key(pair.left, pair.right);
    std::size_t slot = slot_of(key, shift_);
    while (table_[slot].rank != kNoRank && table_[slot].pair != key) {
      slot = (slot + 1) & (size - 1);
    }
    table_[slot] = {key, static_cast<std::uint32_t>(rank), pair.merged};
  }
}

const BpeMerges::Entry& BpeMerges::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t key = pair_key(left, right);
  std::size_t slot = slot_of(key, shift_);
  while (table_[slot].rank != kNoRank && table_[slot].pair != key) {
    slot = (slot + 1) & (table_.size() - 1);
  }
  return table_[slot];  // an empty slot says kNoRank
}

void BpeMerges::merge(std::vector<Symbol>& word, MergeScratch& scratch) const {
  if (word.size() < 2) return;
  if (word.size() < kLongWord) {
    merge_by_scanning(word, scratch);
  } else {
    merge_by_heap(word, scratch);
  }
}

void BpeMerges::merge_by_scanning(std::vector<Symbol>& word, MergeScratch& scratch) const {
  std::vector<std::uint32_t>& ranks = scratch.ranks_;  // of the pair (i, i + 1)
  ranks.resize(word.size());
  for (std::size_t i = 0; i + 1 < word.size(); ++i) {
    ranks[i] = find(word[i].id, word[i + 1].id).rank;
  }
  std::size_t pairs = word.size() - 1;
  while (pairs > 0) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < pairs; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    word[best].id = find(word[best].id, word[best + 1].id).merged;
    word[best].end = word[best + 1].end;
    std::copy(word.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              word.begin() + static_cast<std::ptrdiff_t>(pairs) + 1,
              word.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(ranks.begin() + static_cast<std::ptrdiff_t>(best) + 1,
              ranks.begin() + static_cast<std::ptrdiff_t>(pairs),
              ranks.begin() + static_cast<std::ptrdiff_t>(best));
    --pairs;
    if (best > 0) ranks[best - 1] = find(word[best - 1].id, word[best].id).rank;
    if (best < pairs) ranks[best] = find(word[best].id, word[best + 1].id).rank;
  }
  word.resize(pairs + 1);
}

void BpeMerges::push(const std::vector<Symbol>& word, std::uint32_t at,
                     MergeScratch& scratch) const {
  const std::uint32_t right = scratch.next_[at];
  if (right >= word.size()) return;
  const Entry& entry = find(word[at].id, word[right].id);
  if (entry.rank == kNoRank) return;
  scratch.heap_.push_back(
      {static_cast<std::uint64_t>(entry.rank) << 32 | at, word[at].id, word[right].id});
  std::push_heap(scratch.heap_.begin(), scratch.heap_.end(),
                 [](const auto& a, const auto& b) { return a.order > b.order; });
}

void BpeMerges::merge_by_heap(std::vector<Symbol>& word, MergeScratch& scratch) const {
  const auto size = static_cast<std::uint32_t>(word.size());
  std::vector<std::uint32_t>& next = scratch.next_;
  std::vector<std::uint32_t>& previous = scratch.previous_;
  next.resize(size);
  previous.resize(size);
  scratch.heap_.clear();
  for (std::uint32_t i = 0; i < size; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;  // of the first: wraps to kGone
  }
  for (std::uint32_t i = 0; i + 1 < size; ++i) push(word, i, scratch);
  while (!scratch.heap_.empty()) {
    std::pop_heap(scratch.heap_.begin(), scratch.heap_.end(),
                  [](const auto& a, const auto& b) { return a.order > b.order; });
    const MergeScratch::Candidate top = scratch.heap_.back();
    scratch.heap_.pop_back();
    const auto at = static_cast<std::uint32_t>(top.order & 0xFFFFFFFFU);
    const std::uint32_t right = next[at];
    // A candidate whose symbols have since been merged with others is out of date.
    if (right == kGone || right >= size) continue;
    if (word[at].id != top.left || word[right].id != top.right) continue;
    word[at].id = find(top.left, top.right).merged;
    word[at].end = word[right].end;
    next[at] = next[right];
    next[right] = kGone;
    if (next[at] < size) previous[next[at]] = at;
    push(word, at, scratch);
    if (previous[at] != kGone) push(word, previous[at], scratch);
  }
  std::size_t kept = 0;
  for (std::uint32_t i = 0; i < size; i = next[i]) word[kept++] = word[i];
  word.resize(kept);
}

}  // namespace dfmoa::data
