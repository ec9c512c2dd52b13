// [checkpoint]: when to save, what to keep, how strict a resume is.
#pragma once

#include <cstdint>

#include "checkpoints/retention.h"
#include "src/base/fields.h"

namespace dfmoa::checkpoints {

struct CheckpointConfig {
  std::int64_t every = 100;
  std::int64_t keep_last = 3;
  std::int64_t keep_every = 0;
  bool keep_best = false;
  bool require_bitwise = false;

  void fields(base::FieldList& list);

  /// `best` is the step of the lowest held-out loss so far, -1 where none is known.
  [[nodiscard]] Retention retention(std::int64_t best) const {
    return {keep_last, keep_every, keep_best ? best : -1};
  }
};

}  // namespace dfmoa::checkpoints
