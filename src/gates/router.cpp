#include "src/gates/router.h"

#include <limits>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::gates {
namespace {

at::Tensor top_k_mask(const at::Tensor& p_UE, std::int64_t k) {
  // A stable sort keeps equal values in index order: ties go to the lowest index on every device.
  const auto order =
      std::get<1>(p_UE.detach().sort(/*stable=*/true, /*dim=*/1, /*descending=*/true));
  return at::zeros_like(p_UE).scatter_(1, order.narrow(1, 0, k), 1.0);
}

/// Its slope at a probability that has underflowed to 0 must be finite: 0 * infinity is no slope.
at::Tensor entropy_sum(const at::Tensor& p_UE) {
  const double smallest = p_UE.scalar_type() == at::kDouble
                              ? std::numeric_limits<double>::min()
                              : static_cast<double>(std::numeric_limits<float>::min());
  return -at::xlogy(p_UE, p_UE.clamp_min(smallest)).sum(at::kDouble);
}

}  // namespace

Selection select(const RouterConfig& config, const at::Tensor& logit_UE) {
  const auto p_UE = at::softmax(logit_UE, 1);
  if (config.kind == "softmax") return {p_UE, p_UE};
  const auto masked_UE = p_UE * top_k_mask(p_UE, config.top_k);
  if (config.top_k == 1) return {p_UE, masked_UE};  // renormalised, its router would learn nothing
  return {p_UE, masked_UE / masked_UE.sum(1, /*keepdim=*/true)};
}

at::Tensor statistics_of(const Selection& selection) {
  const auto& p_UE = selection.p_UE;
  const auto w_UE = selection.w_UE.detach();
  // H(w) carries a gradient only where w is p itself: at a selection's zeros it would be infinite.
  const bool dense = selection.w_UE.is_same(p_UE);
  const auto units =
      at::full({1}, static_cast<double>(p_UE.size(0)), p_UE.options().dtype(at::kDouble));
  return at::cat({p_UE.sum(0, /*keepdim=*/false, at::kDouble),
                  (w_UE > 0).sum(0, /*keepdim=*/false, at::kDouble), entropy_sum(p_UE).view({1}),
                  entropy_sum(dense ? p_UE : w_UE).view({1}), units});
}

Gates route(const RouterConfig& config, const at::Tensor& x_TD, const at::Tensor& weight_ED,
            const Documents& documents) {
  if (x_TD.dim() != 2 || weight_ED.dim() != 2 || x_TD.size(1) != weight_ED.size(1) ||
      x_TD.size(0) != documents.tokens()) {
    throw base::ShapeError(base::text("router: x is ", x_TD.sizes(), ", its weight ",
                                      weight_ED.sizes(), ", tokens ", documents.tokens(),
                                      ": expected (T, D) and (E, D)"));
  }
  const bool pooled = config.scope == "span";
  const auto input_UD = pooled ? at::mm(documents.pool_DT, x_TD) : x_TD;
  const auto selection = select(config, at::mm(input_UD, weight_ED.t()).div(config.temperature));
  return {pooled ? selection.w_UE.index_select(0, documents.row_T) : selection.w_UE, selection.w_UE,
          statistics_of(selection)};
}

}  // namespace dfmoa::gates
