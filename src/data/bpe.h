// Byte-pair merging: the lowest-ranked adjacent pair, leftmost first, until none is left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dfmoa::data {

/// A token of a word and the bytes of the word it stands for.
struct Symbol {
  std::int32_t id = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// Scratch of one merging thread.
class MergeScratch {
 private:
  friend class BpeMerges;
  struct Candidate {
    std::uint64_t order = 0;  ///< rank << 32 | position: the least comes first
    std::int32_t left = 0;
    std::int32_t right = 0;
  };
  std::vector<std::uint32_t> ranks_;
  std::vector<std::uint32_t> previous_;
  std::vector<std::uint32_t> next_;
  std::vector<Candidate> heap_;
};

/// The merges of a vocabulary; immutable, so threads may share it.
class BpeMerges {
 public:
  struct Pair {
    std::int32_t left = 0;
    std::int32_t right = 0;
    std::int32_t merged = 0;
  };

  /// Rank = position in the list; of a pair written twice the later place counts, as in the
  /// tokenizers library.
  explicit BpeMerges(const std::vector<Pair>& in_rank_order);

  /// Merges in place. Short words cost a scan per merge, long ones O(n log n).
  void merge(std::vector<Symbol>& word, MergeScratch& scratch) const;

 private:
  static constexpr std::uint32_t kNoRank = 0xFFFFFFFFU;
  struct Entry {
    std::uint64_t pair = 0;
    std::uint32_t rank = kNoRank;
    std::int32_t merged = 0;
  };

  [[nodiscard]] const Entry& find(std::int32_t left, std::int32_t right) const;
  void merge_by_scanning(std::vector<Symbol>& word, MergeScratch& scratch) const;
  void merge_by_heap(std::vector<Symbol>& word, MergeScratch& scratch) const;
  void push(const std::vector<Symbol>& word, std::uint32_t at, MergeScratch& scratch) const;

  std::vector<Entry> table_;  ///< open addressing, a power of two, at most half full
  unsigned shift_ = 0;
};

}  // namespace dfmoa::data
