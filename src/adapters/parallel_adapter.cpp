#include "src/adapters/parallel_adapter.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::adapters {

at::Tensor parallel_adapter(const at::Tensor& x_TD, const ParallelAdapter& adapter) {
  if (x_TD.dim() != 2 || x_TD.size(1) != adapter.down_WD.size(1) ||
      adapter.up_DW.sizes() != at::IntArrayRef({x_TD.size(1), adapter.down_WD.size(0)})) {
    throw base::ShapeError(base::text("parallel_adapter: x is ", x_TD.sizes(), ", down ",
                                      adapter.down_WD.sizes(), ", up ", adapter.up_DW.sizes(),
                                      ": expected (T, D), (W, D) and (D, W)"));
  }
  const auto hidden_TW = at::silu(at::addmm(adapter.down_bias_W, x_TD, adapter.down_WD.t()));
  return at::addmm(adapter.up_bias_D, hidden_TW, adapter.up_DW.t());
}

}  // namespace dfmoa::adapters
