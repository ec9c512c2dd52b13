#include "distributed/gradient_reduction.h"

#include "src/base/text.h"
#include "src/ops/dtype.h"

namespace dfmoa::distributed {

void GradientReduction::launch(std::int64_t layer, at::Tensor flat_gradient) {
  comm_.all_reduce(flat_gradient.mutable_data_ptr(), flat_gradient.numel(),
                   ops::from_torch(flat_gradient.scalar_type()), comm::Op::sum,
                   base::text("C2/layer/", layer));
}

}  // namespace dfmoa::distributed
