#include "src/model/gate_record.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::model {

const BlockRouter& find_router(const Transformer& model, std::int64_t layer,
                               const std::string& name) {
  for (const auto& router : model.blocks()[static_cast<std::size_t>(layer)].adapters().routers) {
    if (router.name == name) return router;
  }
  throw base::ShapeError(base::text("find_router: layer ", layer, " has no router ", name));
}

void GateRecord::gates(std::int64_t layer, const std::string& router, const at::Tensor& w_TE,
                       const gates::Documents&) {
  entries_.push_back({layer, &find_router(model_, layer, router), w_TE.to(at::kCPU, at::kDouble)});
}

at::Tensor GateRecord::mean(bool of_heads) const {
  at::Tensor sum_TE;
  at::Tensor routers_E;
  std::int64_t columns = 0;
  for (const auto& entry : entries_) {
    if (entry.router->of_heads == of_heads) columns = std::max(columns, entry.w_TE.size(1));
  }
  for (const auto& entry : entries_) {
    if (entry.router->of_heads != of_heads) continue;
    if (!sum_TE.defined()) {
      sum_TE = at::zeros({entry.w_TE.size(0), columns}, at::kDouble);
      routers_E = at::zeros({columns}, at::kDouble);
    }
    sum_TE.narrow(1, 0, entry.w_TE.size(1)).add_(entry.w_TE);
    routers_E.narrow(0, 0, entry.w_TE.size(1)).add_(1.0);
  }
  return sum_TE.defined() ? sum_TE / routers_E : sum_TE;
}

}  // namespace dfmoa::model
