// The tokens of words met before: a direct-mapped table of fixed size, one cache line an entry.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace dfmoa::data {

/// Bounded by construction (2 MiB); a word overwrites the one in its place. Not for two threads.
class WordCache {
 public:
  static constexpr std::size_t kMostBytes = 31;
  static constexpr std::size_t kMostTokens = 7;

  WordCache();

  /// Remembers where `word` belongs and returns its tokens; empty when unknown.
  [[nodiscard]] std::span<const std::int32_t> find(std::string_view word);

  /// Keeps the tokens of the word of the last find(); words and lists too long are not kept.
  void keep(std::span<const std::int32_t> tokens);

 private:
  using Key = std::array<std::uint64_t, 4>;  ///< 31 bytes, zero-padded, and the length
  struct alignas(64) Entry {
    Key key{};
    std::int32_t num_tokens = 0;
    std::array<std::int32_t, kMostTokens> tokens{};
  };
  static_assert(sizeof(Entry) == 64);

  std::vector<Entry> entries_;
  Key key_{};
  Entry* place_ = nullptr;  ///< null when the last word was too long
};

}  // namespace dfmoa::data
