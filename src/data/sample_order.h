// The order of the endless sample stream: a new permutation every epoch, computed on the fly.
#pragma once

#include <cstdint>

namespace dfmoa::data {

/// Which line stands at which place of the stream: a pure function of (seed, epoch, place), so that
/// any number of processes, and a resumed run, see the same order without holding it in memory.
/// Source  Luby and Rackoff 1988 (Feistel network), with rounds keyed by Philox; numbers beyond the
///         last line are walked on until one falls inside (Black and Rogaway 2002).
class SampleOrder {
 public:
  /// `count` > 0 lines an epoch; not shuffled: as written.
  SampleOrder(std::int64_t count, std::uint64_t seed, bool shuffled);

  /// The line of global sample number `sample`; epoch = sample / count.
  [[nodiscard]] std::int64_t line(std::int64_t sample) const;

 private:
  [[nodiscard]] std::uint64_t permute(std::uint64_t value, std::uint64_t epoch) const;

  std::int64_t count_;
  std::uint64_t seed_;
  bool shuffled_;
  unsigned half_bits_ = 1;
};

}  // namespace dfmoa::data
