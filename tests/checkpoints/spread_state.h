// The small state with every array on one of several processes.
#pragma once

#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {

/// SmallState with arrays of odd sizes beside it, without memory for any array of another process.
class SpreadState {
 public:
  /// Array i belongs to process (i + shift) % num_processes.
  SpreadState(std::uint64_t seed, int process, int num_processes, int shift = 0) : whole_(seed) {
    for (const int size : {1, 7, 0, 64, 3, 129}) {
      whole_.add(seed, "odd/" + std::to_string(size), base::DType::u8, {size, 1});
    }
    int index = shift;
    for (auto [name, entry] : whole_.tree().entries()) {
      entry.owner = index++ % num_processes;
      if (entry.owner != process) entry.data = nullptr;
      tree_.add(entry);
    }
    for (const auto& [name, value] : whole_.tree().values()) tree_.set(name, value);
  }
  SpreadState(const SpreadState&) = delete;
  SpreadState& operator=(const SpreadState&) = delete;

  [[nodiscard]] const base::StateTree& tree() const { return tree_; }
  /// The state as one process would hold it.
  [[nodiscard]] SmallState& whole() { return whole_; }
  /// True if what this process owns are the values of `seed`.
  [[nodiscard]] bool holds(std::uint64_t seed) {
    SpreadState expected(seed, 0, 1);
    for (const auto& [name, entry] : tree_.entries()) {
      const auto& wanted = expected.whole().bytes().at(name);
      if (entry.data != nullptr && std::memcmp(entry.data, wanted.data(), wanted.size()) != 0) {
        return false;
      }
    }
    return true;
  }

 private:
  SmallState whole_;
  base::StateTree tree_;
};

}  // namespace dfmoa::checkpoints
