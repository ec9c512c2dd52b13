// One collective as its process issued it: what recorder, ring file and error sentences share.
#pragma once

#include <cstdint>
#include <string>

#include "src/base/dtype.h"
#include "src/base/text.h"

namespace dfmoa::comm {

struct Record {
  std::string tag;  ///< what for: C0, C1, C2/layer/17, C3, ...
  std::string op;   ///< all_reduce, broadcast, ...
  std::int64_t elements = 0;
  base::DType dtype = base::DType::u8;
  double seconds = 0;  ///< exposed so far: inside its start and inside its wait, not in between
  int processes = 1;   ///< of the communicator that carried it out
  /// Of `elements`, what this process hands to nobody: its own part of an all_to_all, and all of a
  /// broadcast anywhere but at the root.
  std::int64_t kept_elements = 0;

  [[nodiscard]] std::int64_t bytes() const {
    return elements * static_cast<std::int64_t>(base::size_of(dtype));
  }

  /// What this process hands to others, each byte counted once for every process it goes to:
  ///   all_reduce                  2 (P - 1) bytes() / P, rounded down: parts to those who reduce
  ///                               them, and the own reduced part to everybody
  ///   all_gather, reduce_scatter  (P - 1) bytes(); `elements` counts one part
  ///   all_to_all                  bytes() without the own part
  ///   broadcast                   bytes() at the root, nothing elsewhere: who passes it on is the
  ///                               back end's business
  ///   barrier, split              nothing
  [[nodiscard]] std::int64_t sent_bytes() const {
    if (processes == 1) return 0;
    if (op == "all_reduce") return 2 * (processes - 1) * bytes() / processes;
    if (op == "all_gather" || op == "reduce_scatter") return (processes - 1) * bytes();
    return (elements - kept_elements) * static_cast<std::int64_t>(base::size_of(dtype));
  }

  /// True if two processes may meet with these calls: the parts of a ragged exchange differ.
  [[nodiscard]] bool matches(const Record& other) const {
    return op == other.op && tag == other.tag && dtype == other.dtype &&
           processes == other.processes && (op == "all_to_all" || elements == other.elements);
  }

  /// The same call; the time it took and who keeps what is no part of it.
  friend bool operator==(const Record& a, const Record& b) {
    return a.tag == b.tag && a.op == b.op && a.elements == b.elements && a.dtype == b.dtype &&
           a.processes == b.processes;
  }
};

/// "all_reduce(C1) of 4 F64"; "barrier(end)".
[[nodiscard]] inline std::string describe(const Record& record) {
  const auto call = base::text(record.op, "(", record.tag, ")");
  if (record.op == "barrier" || record.op == "split") return call;
  return base::text(call, " of ", record.elements, " ", base::name_of(record.dtype));
}

}  // namespace dfmoa::comm
