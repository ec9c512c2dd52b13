#include "checkpoints/difference.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace dfmoa::checkpoints {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class Element>
Element element_at(const std::vector<std::byte>& bytes, std::size_t index) {
  Element element;
  std::memcpy(&element, bytes.data() + index * sizeof(Element), sizeof(Element));
  return element;
}

/// Element `index` as a double; an integer beyond 2^53 loses its last digits.
double number_at(const std::vector<std::byte>& bytes, base::DType dtype, std::size_t index) {
  switch (dtype) {
    case base::DType::f64:
      return element_at<double>(bytes, index);
    case base::DType::f32:
      return static_cast<double>(element_at<float>(bytes, index));
    case base::DType::f16:
      return static_cast<double>(base::from_f16(element_at<std::uint16_t>(bytes, index)));
    case base::DType::bf16:
      return static_cast<double>(base::from_bf16(element_at<std::uint16_t>(bytes, index)));
    case base::DType::i64:
      return static_cast<double>(element_at<std::int64_t>(bytes, index));
    case base::DType::i32:
      return static_cast<double>(element_at<std::int32_t>(bytes, index));
    case base::DType::u8:
      break;
  }
  return static_cast<double>(element_at<std::uint8_t>(bytes, index));
}

std::vector<std::byte> read(const Checkpoint& checkpoint, const std::string& name,
                            const DatasetInfo& info) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(base::count_of(info.shape)) *
                               base::size_of(info.dtype));
  checkpoint.read(name, bytes.data());
  return bytes;
}

/// Differences of infinite and undefined numbers would vanish in a maximum: they count as infinite.
DatasetChange change_of(const std::string& name, base::DType dtype,
                        const std::vector<std::byte>& first, const std::vector<std::byte>& second) {
  DatasetChange change{name, 0, 0, 0};
  const auto size = base::size_of(dtype);
  double squared_change = 0;
  double squared_first = 0;
  for (std::size_t i = 0; i * size < first.size(); ++i) {
    const double a = number_at(first, dtype, i);
    squared_first += a * a;
    if (std::memcmp(first.data() + i * size, second.data() + i * size, size) == 0) continue;
    const double apart = std::abs(a - number_at(second, dtype, i));
    change.elements += 1;
    change.largest = std::max(change.largest, std::isfinite(apart) ? apart : kInfinity);
    squared_change += apart * apart;
  }
  if (change.elements == 0) return change;
  const double relative = std::sqrt(squared_change / squared_first);
  change.relative = squared_change == 0 ? 0 : std::isfinite(relative) ? relative : kInfinity;
  return change;
}

void compare_datasets(const Checkpoint& first, const Checkpoint& second, Difference& difference) {
  for (const auto& [name, info] : first.datasets()) {
    const auto found = second.datasets().find(name);
    if (found == second.datasets().end()) {
      difference.only_first.push_back(name);
    } else if (!(found->second == info)) {
      difference.other_layout.push_back({name, info, found->second});
    } else {
      auto change = change_of(name, info.dtype, read(first, name, info), read(second, name, info));
      if (change.elements == 0) {
        difference.equal_datasets += 1;
      } else {
        difference.changed.push_back(std::move(change));
      }
    }
  }
  for (const auto& [name, info] : second.datasets()) {
    if (!first.datasets().contains(name)) difference.only_second.push_back(name);
  }
}

}  // namespace

Difference compare(const Checkpoint& first, const Checkpoint& second) {
  Difference difference;
  compare_datasets(first, second, difference);
  for (const auto& [name, value] : first.values()) {
    const auto found = second.values().find(name);
    if (found == second.values().end()) {
      difference.values[name] = {value, std::nullopt};
    } else if (found->second == value) {
      difference.equal_values += 1;
    } else {
      difference.values[name] = {value, found->second};
    }
  }
  for (const auto& [name, value] : second.values()) {
    if (!first.values().contains(name)) difference.values[name] = {std::nullopt, value};
  }
  return difference;
}

}  // namespace dfmoa::checkpoints
