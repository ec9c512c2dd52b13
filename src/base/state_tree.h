// The port between what trains and what saves: named arrays and attributes, without torch. Every
// process lists all arrays alike and points to those that it holds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "src/base/dtype.h"

namespace dfmoa::base {

/// One contiguous row-major array in host memory. The tree does not own `data`.
struct StateEntry {
  std::string name;  ///< global, e.g. "layer/17/q/expert/5/A"; never a process number
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  ///< (0, D) for an expert without directions
  /// May be null where the shape holds no element, and on every process but the owner.
  void* data = nullptr;
  int owner = 0;  ///< the process of the world whose `data` counts

  [[nodiscard]] std::size_t bytes() const {
    return static_cast<std::size_t>(count_of(shape)) * size_of(dtype);
  }
};

using StateValue = std::variant<std::int64_t, double, std::string>;

/// Everything a run must save: arrays by name (unique) and scalars by name.
class StateTree {
 public:
  /// Throws ContentError if the name is already taken or is not a plain path.
  void add(StateEntry entry);
  void set(const std::string& name, StateValue value) { values_[name] = std::move(value); }

  /// In name order.
  [[nodiscard]] const std::map<std::string, StateEntry>& entries() const { return entries_; }
  [[nodiscard]] const std::map<std::string, StateValue>& values() const { return values_; }

  /// Throws ContentError naming what is missing or of another type.
  [[nodiscard]] const StateEntry& entry(const std::string& name) const;
  [[nodiscard]] std::int64_t integer(const std::string& name) const;
  [[nodiscard]] double real(const std::string& name) const;
  [[nodiscard]] const std::string& text(const std::string& name) const;

 private:
  [[nodiscard]] const StateValue& value(const std::string& name) const;

  std::map<std::string, StateEntry> entries_;
  std::map<std::string, StateValue> values_;
};

}  // namespace dfmoa::base
