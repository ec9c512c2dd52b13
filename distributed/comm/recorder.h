// The sequence of collectives that a process issued: what tests compare, bytes are counted from,
// and the vote of a step hashes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/dtype.h"

namespace dfmoa::comm {

struct Record {
  std::string tag;  ///< what for: C0, C1, C2/layer/17, C3, ...
  std::string op;   ///< all_reduce, broadcast, ...
  std::int64_t elements = 0;
  base::DType dtype = base::DType::u8;

  [[nodiscard]] std::int64_t bytes() const {
    return elements * static_cast<std::int64_t>(base::size_of(dtype));
  }
  bool operator==(const Record&) const = default;
};

class Recorder {
 public:
  void add(Record record);
  /// Counts and hash of everything since the start; the records since the last `clear`.
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }
  /// Positive, so that a vote can reduce it and its complement.
  [[nodiscard]] std::int64_t hash() const;
  [[nodiscard]] const std::vector<Record>& records() const { return records_; }
  void clear() { records_.clear(); }

 private:
  static constexpr std::size_t kKept = 4096;
  std::vector<Record> records_;
  std::int64_t count_ = 0;
  std::int64_t bytes_ = 0;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

}  // namespace dfmoa::comm
