// The key-value part of a GGUF file: model configuration and tokenizer.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace dfmoa::formats {

/// A value as its file types it; integers are widened to 64 bits and fp32 to double, exactly.
using GgufValue =
    std::variant<bool, std::uint64_t, std::int64_t, double, std::string, std::vector<bool>,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>,
                 std::vector<std::string>>;

/// "a string", "a list of integers": for sentences.
[[nodiscard]] std::string kind_of(const GgufValue& value);

/// Every getter throws ContentError, naming file and key, if the key is absent or its value is of
/// another kind.
class GgufMetadata {
 public:
  /// `where` names the file in errors.
  explicit GgufMetadata(std::string where) : where_(std::move(where)) {}

  /// Throws ContentError if the key is there already.
  void add(const std::string& key, GgufValue value);

  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
  /// Null if absent.
  [[nodiscard]] const GgufValue* find(std::string_view key) const;
  [[nodiscard]] const std::string& string(std::string_view key) const;
  /// Signed or unsigned in the file; also throws ContentError beyond 2^63 - 1.
  [[nodiscard]] std::int64_t integer(std::string_view key) const;
  /// An integer or a floating-point number.
  [[nodiscard]] double number(std::string_view key) const;
  [[nodiscard]] bool flag(std::string_view key) const;
  [[nodiscard]] const std::vector<std::string>& strings(std::string_view key) const;
  [[nodiscard]] std::vector<std::int64_t> integers(std::string_view key) const;
  [[nodiscard]] std::vector<double> numbers(std::string_view key) const;

  using Map = std::map<std::string, GgufValue, std::less<>>;
  /// In order of key.
  [[nodiscard]] const Map& entries() const { return entries_; }

 private:
  [[nodiscard]] const GgufValue& get(std::string_view key) const;
  [[noreturn]] void refuse(std::string_view key, const std::string& expected) const;
  [[nodiscard]] std::int64_t narrow(std::string_view key, std::uint64_t value) const;

  std::string where_;
  Map entries_;
};

}  // namespace dfmoa::formats
