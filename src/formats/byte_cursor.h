// Reads a mapped file from front to back; what would lie beyond its end is refused, never read.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <type_traits>

namespace dfmoa::formats {

/// `what` names the thing being read in the error.
class ByteCursor {
 public:
  ByteCursor(const std::filesystem::path& path, std::span<const std::byte> bytes)
      : path_(path), bytes_(bytes) {}

  /// A little-endian number. Throws ContentError at the end of the file.
  template <class Number>
  [[nodiscard]] Number number(const std::string& what) {
    static_assert(std::is_arithmetic_v<Number> && !std::is_same_v<Number, bool>);
    Number value;
    std::memcpy(&value, take(sizeof(value), what).data(), sizeof(value));
    return value;
  }

  /// u64 length, then the characters. Throws ContentError if they exceed the file.
  [[nodiscard]] std::string string(const std::string& what);

  /// A u64 number of items of at least `least_bytes` each.
  /// Throws ContentError if so many cannot follow: nothing is reserved for an absurd count.
  [[nodiscard]] std::uint64_t count(std::uint64_t least_bytes, const std::string& what);

  /// Throws ContentError at the end of the file.
  std::span<const std::byte> take(std::uint64_t bytes, const std::string& what);

  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  [[nodiscard]] std::uint64_t left() const { return bytes_.size() - offset_; }
  /// Throws ContentError "reading PATH: reason".
  [[noreturn]] void refuse(const std::string& reason) const;

 private:
  const std::filesystem::path& path_;
  std::span<const std::byte> bytes_;
  std::uint64_t offset_ = 0;
};

}  // namespace dfmoa::formats
