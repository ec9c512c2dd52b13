// Who owns which expert and which attention head.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "distributed/config.h"
#include "src/model/block_adapters.h"

namespace dfmoa::distributed {

/// What is owned as one: an expert with its rows in all linears that share its gate, or an adapter
/// beside them.
struct OwnedUnit {
  std::string name;             ///< "main/3", "lora/q/0" with a gate per linear, "parallel/side"
  std::int64_t parameters = 0;  ///< live ones
};
/// In a fixed order. `shape` gives the extents of adapters beside linears.
[[nodiscard]] std::vector<OwnedUnit> units_of(const model::BlockAdapters& whole,
                                              const model::BlockShape& shape);
[[nodiscard]] std::string unit_name(const adapters::SiteBank& site, std::int64_t expert);
[[nodiscard]] std::string unit_name(const model::SideAdapter& side);

/// Owners of one block's units and heads, as places in the group that shares the experts.
struct BlockOwners {
  std::map<std::string, int> units;
  std::vector<int> head_H;

  /// Of the gate of a dimension: rows that several query heads share lie with the first of them.
  [[nodiscard]] int of_dimension(const model::DimensionMask& mask, std::int64_t id) const;
};

/// The owners of every block: a pure function of the banks and [parallel].
class Ownership {
 public:
  Ownership(const ParallelConfig& config, int processes);

  /// Chooses the owners of a block; blocks are asked for once each, in their order.
  ///   default   unit u of layer l belongs to (l * units + u) mod processes, heads alike
  ///   balanced  the largest units first, each to whom has the fewest live parameters so far
  /// Throws UsageError for a list of owners that has not one for every unit, or head.
  const BlockOwners& choose(const model::BlockAdapters& whole, const model::BlockShape& shape,
                            std::int64_t layer);
  [[nodiscard]] const BlockOwners& of(std::int64_t layer) const { return blocks_.at(layer); }
  /// Null for a layer that nobody was chosen for.
  [[nodiscard]] const BlockOwners* find(std::int64_t layer) const {
    const auto found = blocks_.find(layer);
    return found == blocks_.end() ? nullptr : &found->second;
  }
  /// Of who owns what, in all blocks.
  [[nodiscard]] std::string hash() const;
  /// Forgets all: the next choice sees other banks.
  void clear();

 private:
  [[nodiscard]] std::vector<int> owners_of(const std::vector<OwnedUnit>& units, std::int64_t layer);
  [[nodiscard]] std::vector<int> heads_of(std::int64_t heads, std::int64_t layer) const;

  bool is_balanced_;
  std::vector<int> units_;  ///< as listed in the configuration; empty: not listed
  std::vector<int> heads_;
  std::vector<std::int64_t> load_;  ///< parameters of every process so far
  std::map<std::int64_t, BlockOwners> blocks_;
};

}  // namespace dfmoa::distributed
