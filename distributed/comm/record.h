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
  double seconds = 0;  ///< from its start to its end; 0 until it ended

  [[nodiscard]] std::int64_t bytes() const {
    return elements * static_cast<std::int64_t>(base::size_of(dtype));
  }

  /// True if two processes may meet with these calls: the parts of a ragged exchange differ.
  [[nodiscard]] bool matches(const Record& other) const {
    return op == other.op && tag == other.tag && dtype == other.dtype &&
           (op == "all_to_all" || elements == other.elements);
  }

  /// The same call; the time it took is no part of it.
  friend bool operator==(const Record& a, const Record& b) {
    return a.tag == b.tag && a.op == b.op && a.elements == b.elements && a.dtype == b.dtype;
  }
};

/// "all_reduce(C1) of 4 F64"; "barrier(end)".
[[nodiscard]] inline std::string describe(const Record& record) {
  if (record.op == "barrier") return base::text("barrier(", record.tag, ")");
  return base::text(record.op, "(", record.tag, ") of ", record.elements, " ",
                    base::name_of(record.dtype));
}

}  // namespace dfmoa::comm
