// Two checkpoints side by side: what their layouts, arrays and values differ in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/reader.h"

namespace dfmoa::checkpoints {

/// A dataset that both hold in one type and shape, with other bytes.
struct DatasetChange {
  std::string name;
  std::int64_t elements = 0;  ///< that differ in a bit
  double largest = 0;         ///< max |a - b|; infinite where one of the two is not finite
  double relative = 0;        ///< |a - b| / |a| in the Euclidean norm; infinite where a is 0
};

/// A dataset of another type or shape in each of them.
struct LayoutChange {
  std::string name;
  DatasetInfo first;
  DatasetInfo second;
};

/// The value of the first and of the second; nothing where it has none.
using ValueChange = std::pair<std::optional<base::StateValue>, std::optional<base::StateValue>>;

struct Difference {
  std::size_t equal_datasets = 0;
  std::size_t equal_values = 0;
  std::vector<DatasetChange> changed;  ///< this and all that follow: in name order
  std::vector<LayoutChange> other_layout;
  std::vector<std::string> only_first;
  std::vector<std::string> only_second;
  std::map<std::string, ValueChange> values;

  [[nodiscard]] bool same_layout() const {
    return other_layout.empty() && only_first.empty() && only_second.empty();
  }
  [[nodiscard]] bool identical() const {
    return same_layout() && changed.empty() && values.empty();
  }
};

/// Reads every dataset of both. Throws as Checkpoint::read does.
[[nodiscard]] Difference compare(const Checkpoint& first, const Checkpoint& second);

}  // namespace dfmoa::checkpoints
