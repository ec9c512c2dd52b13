#include "src/data/word_cache.h"

#include <algorithm>
#include <cstring>

namespace dfmoa::data {
namespace {

constexpr unsigned kEntryBits = 15;

}  // namespace

WordCache::WordCache() : entries_(std::size_t{1} << kEntryBits) {}

std::span<const std::int32_t> WordCache::find(std::string_view word) {
  place_ = nullptr;
  if (word.size() > kMostBytes || word.empty()) return {};
  key_ = {};
  std::memcpy(key_.data(), word.data(), word.size());
  key_[3] |= static_cast<std::uint64_t>(word.size()) << 56;  // the last byte is always free
  std::uint64_t hash = 0;
  for (const std::uint64_t part : key_) hash = (hash ^ part) * 0x9E3779B97F4A7C15ULL ^ hash >> 29;
  hash ^= hash >> 32;
  place_ = &entries_[hash * 0xD6E8FEB86659FD93ULL >> (64 - kEntryBits)];
  if (place_->key != key_) return {};
  return {place_->tokens.data(), static_cast<std::size_t>(place_->num_tokens)};
}

void WordCache::keep(std::span<const std::int32_t> tokens) {
  if (place_ == nullptr || tokens.size() > kMostTokens) return;
  place_->key = key_;
  place_->num_tokens = static_cast<std::int32_t>(tokens.size());
  std::copy(tokens.begin(), tokens.end(), place_->tokens.begin());
}

}  // namespace dfmoa::data
