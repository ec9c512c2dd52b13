#include "checkpoints/config.h"

namespace dfmoa::checkpoints {

void CheckpointConfig::fields(base::FieldList& list) {
  list.add("every", every, "steps between two checkpoints; 0 saves only at the end").range(0, 1e9);
  list.add("keep_last", keep_last, "newest checkpoints that are kept").range(1, 1e6);
  list.add("keep_every", keep_every,
           "also keep every checkpoint whose step is a multiple of this; 0 for none")
      .range(0, 1e9);
  list.add("keep_best", keep_best,
           "also keep the checkpoint of the lowest held-out loss (needs train.evaluate_every)");
  list.add("require_bitwise", require_bitwise,
           "refuse a resume whose processes, threads, device, transport, memory form or CPU "
           "instructions differ, because it continues to 1e-6 but not bit for bit");
}

}  // namespace dfmoa::checkpoints
