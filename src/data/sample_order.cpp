#include "src/data/sample_order.h"

#include <bit>

#include "src/base/random.h"

namespace dfmoa::data {
namespace {

constexpr std::uint64_t kRounds = 10;  // four suffice in theory; small files need the rest

}  // namespace

SampleOrder::SampleOrder(std::int64_t count, std::uint64_t seed, bool shuffled)
    : count_(count), seed_(seed), shuffled_(shuffled) {
  const auto bits = static_cast<unsigned>(std::bit_width(static_cast<std::uint64_t>(count - 1)));
  if (bits > 2) half_bits_ = (bits + 1) / 2;
}

std::uint64_t SampleOrder::permute(std::uint64_t value, std::uint64_t epoch) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  const base::KeyedRandom random(seed_, {base::key_word("data_order"), epoch});
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const auto mixed = left ^ (random.bits(round << 32 | right) & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

std::int64_t SampleOrder::line(std::int64_t sample) const {
  const auto place = sample % count_;
  if (!shuffled_) return place;
  const auto epoch = static_cast<std::uint64_t>(sample / count_);
  auto value = static_cast<std::uint64_t>(place);
  do {
    value = permute(value, epoch);
  } while (value >= static_cast<std::uint64_t>(count_));
  return static_cast<std::int64_t>(value);
}

}  // namespace dfmoa::data
