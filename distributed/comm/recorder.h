// The sequence of collectives that a process issued: what tests compare, bytes are counted from,
// and the vote of a step hashes.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <vector>

#include "distributed/comm/record.h"

namespace dfmoa::comm {

class RingWriter;

/// One per process: a communicator and all its parts write into the same sequence.
class Recorder {
 public:
  Recorder();
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  /// Before a collective starts; returns its number, counted from 1. Throws what `fail` was told.
  std::int64_t begin(Record record);
  /// The caller leaves it in flight, and comes back to wait for it: the time between is its own.
  void leave(std::int64_t number);
  void enter(std::int64_t number);
  /// It ended, in whatever order. One that failed never ends.
  void end(std::int64_t number);
  /// A collective failed where nobody could be told: no other may begin.
  void fail(std::exception_ptr failure) noexcept { failure_ = std::move(failure); }

  /// From now on every collective is also written to `ring`.
  void mirror(std::unique_ptr<RingWriter> ring);

  /// Counts and hash of everything since the start; the last records since the last `clear`.
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }
  [[nodiscard]] std::int64_t sent_bytes() const { return sent_bytes_; }
  /// Exposed: spent inside collectives, waiting for the others included. While one was in flight
  /// and the caller did something else, nothing is counted.
  [[nodiscard]] double seconds() const { return seconds_; }
  /// The same on all processes that issued matching calls. Positive, so that a vote can reduce it
  /// and its complement.
  [[nodiscard]] std::int64_t hash() const;
  /// In the order in which they began.
  [[nodiscard]] const std::vector<Record>& records() const { return records_; }
  void clear() { records_.clear(); }

 private:
  static constexpr std::size_t kKept = 4096;
  /// Adds the time since the caller came in.
  void count_time(std::int64_t number);

  std::vector<Record> records_;  // the last of them is number count_
  std::int64_t count_ = 0;
  std::int64_t bytes_ = 0;
  std::int64_t sent_bytes_ = 0;
  double seconds_ = 0;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
  std::chrono::steady_clock::time_point came_in_;
  std::unique_ptr<RingWriter> ring_;
  std::exception_ptr failure_;
};

}  // namespace dfmoa::comm
