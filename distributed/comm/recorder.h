// The sequence of collectives that a process issued: what tests compare, bytes are counted from,
// and the vote of a step hashes.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "distributed/comm/record.h"

namespace dfmoa::comm {

class RingWriter;

class Recorder {
 public:
  Recorder();
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  /// Before a collective starts, and after it ended. One that failed never ends.
  void begin(Record record);
  void end();

  /// From now on every collective is also written to `ring`.
  void mirror(std::unique_ptr<RingWriter> ring);

  /// Counts and hash of everything since the start; the last records since the last `clear`.
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }
  /// Spent inside collectives, waiting for the others included.
  [[nodiscard]] double seconds() const { return seconds_; }
  /// The same on all processes that issued matching calls. Positive, so that a vote can reduce it
  /// and its complement.
  [[nodiscard]] std::int64_t hash() const;
  [[nodiscard]] const std::vector<Record>& records() const { return records_; }
  void clear() { records_.clear(); }

 private:
  static constexpr std::size_t kKept = 4096;
  std::vector<Record> records_;
  std::int64_t count_ = 0;
  std::int64_t bytes_ = 0;
  double seconds_ = 0;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
  std::chrono::steady_clock::time_point started_;
  std::unique_ptr<RingWriter> ring_;
};

}  // namespace dfmoa::comm
