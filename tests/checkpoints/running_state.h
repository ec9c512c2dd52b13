// A state that every step changes as a whole: a mixture of two steps has the hash of neither.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "src/base/hash.h"
#include "src/base/state_tree.h"

namespace dfmoa::checkpoints {

class RunningState {
 public:
  RunningState() {
    const std::array<std::int64_t, 4> rows{3, 0, 700, 1};
    for (std::size_t i = 0; i < rows.size(); ++i) {
      auto& held = held_.emplace_back(static_cast<std::size_t>(rows[i] * kColumns));
      tree_.add({"expert/" + std::to_string(i) + "/A",
                 base::DType::i64,
                 {rows[i], kColumns},
                 held.empty() ? nullptr : held.data(),
                 0});
    }
  }
  RunningState(const RunningState&) = delete;
  RunningState& operator=(const RunningState&) = delete;

  [[nodiscard]] base::StateTree& tree() { return tree_; }

  /// The same state as `process` lists it, if array i lies on process i % num_processes alone.
  [[nodiscard]] base::StateTree spread_tree(int process, int num_processes) const {
    base::StateTree spread;
    int index = 0;
    for (auto [name, entry] : tree_.entries()) {
      entry.owner = index++ % num_processes;
      if (entry.owner != process) entry.data = nullptr;
      spread.add(entry);
    }
    for (const auto& [name, value] : tree_.values()) spread.set(name, value);
    return spread;
  }

  void advance() {
    ++step;
    auto salt = static_cast<std::uint64_t>(step);
    for (auto& held : held_) {
      for (auto& value : held) {
        value = static_cast<std::int64_t>(
            static_cast<std::uint64_t>(value) * 6364136223846793005ULL + ++salt);
      }
    }
    tree_.set("tokens_seen", step * 1000);
  }

  [[nodiscard]] std::string hash() const {
    base::Hash128 hash;
    for (const auto& held : held_) hash.add(held.data(), held.size() * sizeof(std::int64_t));
    return hash.hex();
  }

  std::int64_t step = 0;

 private:
  static constexpr std::int64_t kColumns = 250;
  std::vector<std::vector<std::int64_t>> held_;
  base::StateTree tree_;
};

}  // namespace dfmoa::checkpoints
