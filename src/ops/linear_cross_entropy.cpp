#include "src/ops/linear_cross_entropy.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::ops {
namespace {

void check_shapes(const at::Tensor& x_XD, const at::Tensor& weight_VD, const at::Tensor& target_X) {
  if (x_XD.dim() == 2 && weight_VD.dim() == 2 && x_XD.size(1) == weight_VD.size(1) &&
      target_X.dim() == 1 && target_X.size(0) == x_XD.size(0)) {
    return;
  }
  throw base::ShapeError(base::text("linear_cross_entropy: x ", x_XD.sizes(), ", weight ",
                                    weight_VD.sizes(), ", target ", target_X.sizes(),
                                    ": expected (X, D), (V, D), (X)"));
}

}  // namespace

LinearCrossEntropy linear_cross_entropy(const at::Tensor& x_XD, const at::Tensor& weight_VD,
                                        const at::Tensor& target_X, double scale,
                                        bool want_gradient, std::int64_t chunk) {
  check_shapes(x_XD, weight_VD, target_X);
  if (chunk < 1) {
    throw base::ShapeError(
        base::text("linear_cross_entropy: chunks of ", chunk, " rows, expected at least 1"));
  }
  const at::NoGradGuard no_grad;
  const auto count = x_XD.size(0);
  LinearCrossEntropy result;
  result.nll_X = at::empty({count}, x_XD.options().dtype(at::kDouble));
  result.best_X = at::empty({count}, target_X.options());
  if (want_gradient) result.dx_XD = at::empty_like(x_XD);
  const auto rows = std::min(count, chunk);
  auto buffer = at::empty({rows, weight_VD.size(0)}, x_XD.options());
  for (std::int64_t begin = 0; begin < count; begin += rows) {
    const auto size = std::min(rows, count - begin);
    auto logits_XV = buffer.narrow(0, 0, size);
    at::mm_out(logits_XV, x_XD.narrow(0, begin, size), weight_VD.t());
    const auto target_X1 = target_X.narrow(0, begin, size).unsqueeze(1);
    const auto [highest_X1, best_X1] = logits_XV.max(1, /*keepdim=*/true);
    result.best_X.narrow(0, begin, size).copy_(best_X1.squeeze(1));
    logits_XV.sub_(highest_X1);
    const auto picked_X1 = logits_XV.gather(1, target_X1).to(at::kDouble);
    logits_XV.exp_();
    const auto sum_X1 = logits_XV.sum(1, /*keepdim=*/true);
    result.nll_X.narrow(0, begin, size)
        .copy_(sum_X1.to(at::kDouble).log().sub_(picked_X1).squeeze(1));
    if (!want_gradient) continue;
    logits_XV.mul_(sum_X1.reciprocal().mul_(scale));
    logits_XV.scatter_add_(1, target_X1, at::full_like(sum_X1, -scale));
    auto dx = result.dx_XD.narrow(0, begin, size);
    at::mm_out(dx, logits_XV, weight_VD);
  }
  return result;
}

at::Tensor linear_cross_entropy_plain(const at::Tensor& x_XD, const at::Tensor& weight_VD,
                                      const at::Tensor& target_X) {
  const auto log_p_XV = at::log_softmax(at::matmul(x_XD, weight_VD.t()), 1);
  return -log_p_XV.gather(1, target_X.unsqueeze(1)).squeeze(1);
}

}  // namespace dfmoa::ops
