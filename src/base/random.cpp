#include "src/base/random.h"

#include <cmath>
#include <numbers>
#include <numeric>

namespace dfmoa::base {
namespace {

std::uint64_t mix(std::uint64_t word) {  // splitmix64's finaliser
  word += 0x9E3779B97F4A7C15ULL;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9ULL;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBULL;
  return word ^ (word >> 31);
}

double open_unit(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11) + 0.5) * 0x1.0p-53;
}

std::uint64_t join_words(std::uint32_t high, std::uint32_t low) {
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = 0xD2511F53ULL * counter[0];
    const std::uint64_t product1 = 0xCD9E8D57ULL * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

KeyedRandom::KeyedRandom(std::uint64_t seed, std::initializer_list<std::uint64_t> key) {
  std::uint64_t low = mix(seed);
  std::uint64_t high = mix(~seed);
  for (const auto word : key) {
    low = mix(low ^ word);
    high = mix(high + word);
  }
  key_ = {static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32)};
  high_ = high;
}

std::array<std::uint32_t, 4> KeyedRandom::block(std::uint64_t index) const {
  return philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                     static_cast<std::uint32_t>(high_), static_cast<std::uint32_t>(high_ >> 32)},
                    key_);
}

std::uint64_t KeyedRandom::bits(std::uint64_t index) const {
  const auto words = block(index);
  return join_words(words[0], words[1]);
}

double KeyedRandom::uniform(std::uint64_t index) const {
  return open_unit(bits(index));
}

double KeyedRandom::normal(std::uint64_t index) const {
  const auto words = block(index);
  const double radius = std::sqrt(-2.0 * std::log(open_unit(join_words(words[0], words[1]))));
  return radius * std::cos(2.0 * std::numbers::pi * open_unit(join_words(words[2], words[3])));
}

std::uint64_t KeyedRandom::below(std::uint64_t index, std::uint64_t bound) const {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(bits(index)) * bound) >> 64);
}

std::vector<std::int64_t> permutation(const KeyedRandom& random, std::int64_t count) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (auto last = static_cast<std::uint64_t>(count); last > 1; --last) {
    std::swap(order[last - 1], order[random.below(last, last)]);
  }
  return order;
}

}  // namespace dfmoa::base
