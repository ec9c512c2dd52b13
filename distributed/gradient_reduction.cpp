#include "distributed/gradient_reduction.h"

#include "src/base/text.h"
#include "src/ops/dtype.h"

namespace dfmoa::distributed {

void GradientReduction::launch(std::int64_t layer, at::Tensor flat_gradient) {
  // A sum of one is there already: a lone process reads nothing back from its device.
  const auto host = comm_.num_processes() > 1 ? flat_gradient.to(at::kCPU) : flat_gradient;
  comm_.all_reduce(host.mutable_data_ptr(), host.numel(), ops::from_torch(host.scalar_type()),
                   comm::Op::sum, base::text("C2/layer/", layer));
  flat_gradient.copy_(host);  // nothing where it is the same tensor
}

}  // namespace dfmoa::distributed
