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
  bool require_bitwise = false;

  void fields(base::FieldList& list);

  [[nodiscard]] Retention retention() const { return {keep_last, keep_every}; }
};

}  // namespace dfmoa::checkpoints
