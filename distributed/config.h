// [parallel]: how a run is spread over its processes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/fields.h"

namespace dfmoa::distributed {

enum class Transport { replicate, move_weights, move_tokens };
[[nodiscard]] std::string name_of(Transport transport);

struct ParallelConfig {
  std::int64_t expert = 1;
  std::string transport = "auto";
  std::string gather = "auto";
  std::vector<std::string> owners{"default"};
  std::vector<std::string> head_owners{"default"};
  std::string heads = "home";

  void fields(base::FieldList& list);

  /// Throws UsageError for keys that do not go together. `keeps_graphs`: train.memory = keep.
  void validate(bool keeps_graphs) const;
  /// What `auto` stands for: replicate for one process that holds experts, else move_weights.
  [[nodiscard]] Transport chosen() const;
  /// The same where `processes` share the experts of a copy. Lists name places that are no more: of
  /// another number the owners are chosen by default; and heads run at home where nobody shares.
  [[nodiscard]] ParallelConfig shared_by(std::int64_t processes) const;
  /// Whether a block's weights are there from its first pass of a step to its last.
  [[nodiscard]] bool gathers_steps(bool keeps_graphs) const;
};

/// Owners as a list of numbers; empty where `words` is one of `names`, such as "default".
/// Throws UsageError for other words, and for a process outside of [0, processes).
[[nodiscard]] std::vector<int> explicit_owners(const std::string& key,
                                               const std::vector<std::string>& words,
                                               const std::vector<std::string>& names,
                                               int processes);

}  // namespace dfmoa::distributed
