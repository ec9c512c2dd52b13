// GGUF files byte by byte, right or wrong, for the reader's tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace dfmoa::formats {

template <class Number>
std::string raw(Number value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

inline std::string gguf_string(const std::string& text) {
  return raw<std::uint64_t>(text.size()) + text;
}

/// Extents innermost first, as the file lists them.
inline std::string gguf_entry(const std::string& name, const std::vector<std::uint64_t>& extents,
                              std::uint32_t type, std::uint64_t offset) {
  auto entry = gguf_string(name) + raw(static_cast<std::uint32_t>(extents.size()));
  for (auto extent : extents) entry += raw(extent);
  return entry + raw(type) + raw(offset);
}

/// Keys and entries are concatenated as they stand; the data begins at a multiple of `alignment`.
struct GgufBuilder {
  std::vector<std::string> keys;
  std::vector<std::string> entries;
  std::string data;
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::string magic = "GGUF";

  void key(const std::string& name, std::uint32_t type, const std::string& value) {
    keys.push_back(gguf_string(name) + raw(type) + value);
  }
  void list(const std::string& name, std::uint32_t type, std::uint64_t items,
            const std::string& values) {
    key(name, 9, raw(type) + raw(items) + values);
  }
  [[nodiscard]] std::string bytes() const {
    auto file =
        magic + raw(version) + raw<std::uint64_t>(entries.size()) + raw<std::uint64_t>(keys.size());
    for (const auto& one : keys) file += one;
    for (const auto& one : entries) file += one;
    if (!data.empty()) file.append((alignment - file.size() % alignment) % alignment, '\0');
    return file + data;
  }
};

}  // namespace dfmoa::formats
