#include "distributed/comm/recorder.h"

#include "distributed/comm/ring_file.h"

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

Recorder::Recorder() = default;
Recorder::~Recorder() = default;

std::int64_t Recorder::begin(Record record) {
  if (failure_) std::rethrow_exception(failure_);
  hash_ = mix(mix(hash_, record.tag), record.op);
  // The parts of a ragged exchange differ from process to process, the hash must not.
  const auto elements = record.op == "all_to_all" ? 0 : record.elements;
  hash_ = mix(mix(hash_, static_cast<std::uint64_t>(elements)),
              static_cast<std::uint64_t>(record.dtype));
  hash_ = mix(hash_, static_cast<std::uint64_t>(record.processes));
  count_ += 1;
  bytes_ += record.bytes();
  sent_bytes_ += record.sent_bytes();
  if (ring_) ring_->begin(count_, record);
  if (records_.size() == kKept) records_.erase(records_.begin(), records_.begin() + kKept / 2);
  records_.push_back(std::move(record));
  came_in_ = std::chrono::steady_clock::now();
  return count_;
}

void Recorder::leave(std::int64_t number) {
  count_time(number);
  if (ring_) ring_->leave(number);
}

void Recorder::enter(std::int64_t number) {
  if (ring_) ring_->enter(number);
  came_in_ = std::chrono::steady_clock::now();
}

void Recorder::end(std::int64_t number) {
  count_time(number);
  if (ring_) ring_->end(number);
}

void Recorder::count_time(std::int64_t number) {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - came_in_;
  seconds_ += elapsed.count();
  const auto from_last = static_cast<std::size_t>(count_ - number);
  if (from_last < records_.size()) {  // else it is forgotten already
    records_[records_.size() - 1 - from_last].seconds += elapsed.count();
  }
}

void Recorder::mirror(std::unique_ptr<RingWriter> ring) {
  ring_ = std::move(ring);
}

std::int64_t Recorder::hash() const {
  return static_cast<std::int64_t>(hash_ >> 1);
}

}  // namespace dfmoa::comm
