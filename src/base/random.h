// Counter-based random numbers: a value is a pure function of (seed, key, index), so every cut of
// the work over processes, micro-batches and threads draws the same ones.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace dfmoa::base {

/// Philox4x32-10. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
[[nodiscard]] std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                      std::array<std::uint32_t, 2> key);

/// A 64-bit word for a name, to be used inside a key (FNV-1a).
[[nodiscard]] constexpr std::uint64_t key_word(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ULL;
  }
  return hash;
}

/// An endless sequence of values named by a seed and a key such as {layer, site, expert}.
class KeyedRandom {
 public:
  KeyedRandom(std::uint64_t seed, std::initializer_list<std::uint64_t> key);

  /// 64 random bits number `index`.
  [[nodiscard]] std::uint64_t bits(std::uint64_t index) const;
  /// Uniform in the open interval (0, 1): 53 bits, never 0 and never 1.
  [[nodiscard]] double uniform(std::uint64_t index) const;
  /// Standard normal (Box-Muller on two uniforms of this index).
  [[nodiscard]] double normal(std::uint64_t index) const;
  /// Uniform in [0, bound), without modulo bias beyond 2^-64 * bound.
  [[nodiscard]] std::uint64_t below(std::uint64_t index, std::uint64_t bound) const;

 private:
  [[nodiscard]] std::array<std::uint32_t, 4> block(std::uint64_t index) const;

  std::array<std::uint32_t, 2> key_{};
  std::uint64_t high_ = 0;
};

/// A permutation of 0..count-1 (Fisher-Yates).
[[nodiscard]] std::vector<std::int64_t> permutation(const KeyedRandom& random, std::int64_t count);

}  // namespace dfmoa::base
