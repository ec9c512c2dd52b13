#include "src/formats/gguf_metadata.h"

#include <array>
#include <limits>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::formats {

std::string kind_of(const GgufValue& value) {
  static constexpr std::array<const char*, std::variant_size_v<GgufValue>> kKinds{
      "a flag",
      "an integer",
      "an integer",
      "a number",
      "a string",
      "a list of flags",
      "a list of integers",
      "a list of integers",
      "a list of numbers",
      "a list of strings"};
  return kKinds.at(value.index());
}

void GgufMetadata::add(const std::string& key, GgufValue value) {
  if (!entries_.emplace(key, std::move(value)).second) {
    throw base::ContentError(base::text(where_, ": the key '", key, "' is written twice"));
  }
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : &found->second;
}

const GgufValue& GgufMetadata::get(std::string_view key) const {
  if (const auto* value = find(key)) return *value;
  throw base::ContentError(base::text(where_, ": the key '", key, "' is missing"));
}

void GgufMetadata::refuse(std::string_view key, const std::string& expected) const {
  throw base::ContentError(base::text(where_, ": the key '", key, "' holds ", kind_of(get(key)),
                                      ", expected ", expected));
}

std::int64_t GgufMetadata::narrow(std::string_view key, std::uint64_t value) const {
  if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    throw base::ContentError(
        base::text(where_, ": the key '", key, "' holds ", value, ", expected at most 2^63 - 1"));
  }
  return static_cast<std::int64_t>(value);
}

const std::string& GgufMetadata::string(std::string_view key) const {
  const auto* value = std::get_if<std::string>(&get(key));
  if (value == nullptr) refuse(key, "a string");
  return *value;
}

std::int64_t GgufMetadata::integer(std::string_view key) const {
  const auto& value = get(key);
  if (const auto* count = std::get_if<std::uint64_t>(&value)) return narrow(key, *count);
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  refuse(key, "an integer");
}

double GgufMetadata::number(std::string_view key) const {
  const auto& value = get(key);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* count = std::get_if<std::uint64_t>(&value)) return static_cast<double>(*count);
  if (const auto* number = std::get_if<std::int64_t>(&value)) return static_cast<double>(*number);
  refuse(key, "a number");
}

bool GgufMetadata::flag(std::string_view key) const {
  const auto* value = std::get_if<bool>(&get(key));
  if (value == nullptr) refuse(key, "a flag");
  return *value;
}

const std::vector<std::string>& GgufMetadata::strings(std::string_view key) const {
  const auto* value = std::get_if<std::vector<std::string>>(&get(key));
  if (value == nullptr) refuse(key, "a list of strings");
  return *value;
}

std::vector<std::int64_t> GgufMetadata::integers(std::string_view key) const {
  const auto& value = get(key);
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) return *list;
  const auto* counts = std::get_if<std::vector<std::uint64_t>>(&value);
  if (counts == nullptr) refuse(key, "a list of integers");
  std::vector<std::int64_t> list;
  list.reserve(counts->size());
  for (auto count : *counts) list.push_back(narrow(key, count));
  return list;
}

std::vector<double> GgufMetadata::numbers(std::string_view key) const {
  const auto* value = std::get_if<std::vector<double>>(&get(key));
  if (value == nullptr) refuse(key, "a list of numbers");
  return *value;
}

}  // namespace dfmoa::formats
