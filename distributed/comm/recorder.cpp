#include "distributed/comm/recorder.h"

namespace dfmoa::comm {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t word) {
  for (int byte = 0; byte < 8; ++byte) {
    hash = (hash ^ ((word >> (8 * byte)) & 0xFFU)) * 0x100000001b3ULL;
  }
  return hash;
}

std::uint64_t mix(std::uint64_t hash, const std::string& text) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mix(hash, text.size());
}

}  // namespace

void Recorder::add(Record record) {
  hash_ = mix(mix(hash_, record.tag), record.op);
  hash_ = mix(mix(hash_, static_cast<std::uint64_t>(record.elements)),
              static_cast<std::uint64_t>(record.dtype));
  count_ += 1;
  bytes_ += record.bytes();
  if (records_.size() == kKept) records_.erase(records_.begin(), records_.begin() + kKept / 2);
  records_.push_back(std::move(record));
}

std::int64_t Recorder::hash() const {
  return static_cast<std::int64_t>(hash_ >> 1);
}

}  // namespace dfmoa::comm
