// What router.h promises from logits onward: one function per kind of gate, and their statistics.
#include <functional>
#include <limits>
#include <map>

#include "src/base/error.h"
#include "src/gates/router.h"

namespace dfmoa::gates {
namespace {

double smallest_positive(const at::Tensor& like) {
  return like.scalar_type() == at::kDouble ? std::numeric_limits<double>::min()
                                           : static_cast<double>(std::numeric_limits<float>::min());
}

at::Tensor top_k_mask(const at::Tensor& p_UE, std::int64_t k) {
  // A stable sort keeps equal values in index order: ties go to the lowest index on every device.
  const auto order =
      std::get<1>(p_UE.detach().sort(/*stable=*/true, /*dim=*/1, /*descending=*/true));
  return at::zeros_like(p_UE).scatter_(1, order.narrow(1, 0, k), 1.0);
}

/// Rows of shares; a row of zeros stays one, and has no slope.
at::Tensor renormalised(const at::Tensor& s_UE) {
  const auto sum_U1 = s_UE.sum(1, /*keepdim=*/true);
  return s_UE / at::where(sum_U1 > 0, sum_U1, at::ones_like(sum_U1));
}

struct Inputs {
  const RouterConfig& config;
  at::Tensor logit_UE;
  at::Tensor threshold_U1;

  [[nodiscard]] at::Tensor tau() const {
    return at::sigmoid(threshold_U1) * config.largest_threshold(logit_UE.size(1));
  }
};

Selection softmax(const Inputs& in) {
  const auto p_UE = at::softmax(in.logit_UE, 1);
  return {p_UE, p_UE, {}};
}

Selection topk(const Inputs& in) {
  const auto p_UE = at::softmax(in.logit_UE, 1);
  const auto masked_UE = p_UE * top_k_mask(p_UE, in.config.top_k);
  if (in.config.top_k == 1) return {p_UE, masked_UE, {}};  // renormalised, it would learn nothing
  return {p_UE, masked_UE / masked_UE.sum(1, /*keepdim=*/true), {}};
}

Selection topk_literal(const Inputs& in) {
  const auto p_UE = at::softmax(in.logit_UE, 1);
  return {p_UE, p_UE * top_k_mask(p_UE, in.config.top_k), {}};
}

/// AdaMoLE, arXiv:2405.00361.
Selection threshold(const Inputs& in) {
  const auto p_UE = at::softmax(in.logit_UE, 1);
  const auto tau_U1 = in.tau();
  return {p_UE, renormalised(at::relu(p_UE - tau_U1)), tau_U1};
}

/// MoA, arXiv:2506.05928, the soft form.
Selection sigmoid(const Inputs& in) {
  const auto g_UE = at::sigmoid(in.logit_UE);
  return {g_UE, g_UE, {}};
}

/// Its sparse form, continuous at the threshold, so that the threshold has a gradient.
Selection sigmoid_threshold(const Inputs& in) {
  const auto g_UE = at::sigmoid(in.logit_UE);
  const auto gamma_U1 = in.tau();
  return {g_UE, at::relu(g_UE - gamma_U1) / (1.0 - gamma_U1), gamma_U1};
}

/// As released: the comparison hides the threshold from every gradient.
Selection sigmoid_threshold_literal(const Inputs& in) {
  const auto g_UE = at::sigmoid(in.logit_UE);
  const auto gamma_U1 = in.tau();
  return {g_UE, g_UE * (g_UE >= gamma_U1).to(g_UE.scalar_type()), gamma_U1};
}

/// LD-MoLE, arXiv:2509.25684: p = max(a - tau, 0) / (1 - lambda) on the largest support for which
/// 1 - lambda + k a_(k) exceeds the sum of the k largest; lambda = 0.99 + log sigmoid(v x + b).
Selection sparsegen(const Inputs& in) {
  const auto lambda_U1 = 0.99 + at::log_sigmoid(in.threshold_U1);
  const auto room_U1 = 1.0 - lambda_U1;
  const auto sorted = in.logit_UE.sort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  const auto& a_UE = std::get<0>(sorted);
  const auto k_E = at::arange(1, a_UE.size(1) + 1, a_UE.options());
  // A product with a triangle: torch's own running sum does not repeat bit for bit on a GPU.
  const auto experts = a_UE.size(1);
  const auto sums_UE = at::mm(a_UE, at::ones({experts, experts}, a_UE.options()).triu());
  // The condition holds up to the support's size and for no larger one.
  const auto in_support_UE = (room_U1 + k_E * a_UE > sums_UE).detach();
  const auto k_U1 = in_support_UE.sum(1, /*keepdim=*/true).clamp_min(1);
  const auto tau_U1 = (sums_UE.gather(1, k_U1 - 1) - room_U1) / k_U1.to(a_UE.scalar_type());
  const auto p_UE = at::relu(in.logit_UE - tau_U1) / room_U1;
  return {at::softmax(in.logit_UE, 1), p_UE, lambda_U1};
}

/// Attention heads: H * softmax, exactly 1 where all logits are equal, whatever H is.
Selection head_softmax(const Inputs& in) {
  const auto shifted_UE = in.logit_UE - std::get<0>(in.logit_UE.detach().max(1, /*keepdim=*/true));
  const auto e_UE = shifted_UE.exp();
  return {at::softmax(in.logit_UE, 1), e_UE / e_UE.mean(1, /*keepdim=*/true), {}};
}

Selection head_sigmoid(const Inputs& in) {
  const auto g_UE = at::sigmoid(in.logit_UE);
  return {g_UE, 2.0 * g_UE, {}};
}

const std::map<std::string, std::function<Selection(const Inputs&)>>& kinds() {
  static const std::map<std::string, std::function<Selection(const Inputs&)>> kKinds{
      {"softmax", softmax},
      {"topk", topk},
      {"topk_literal", topk_literal},
      {"threshold", threshold},
      {"sigmoid", sigmoid},
      {"sigmoid_threshold", sigmoid_threshold},
      {"sigmoid_threshold_literal", sigmoid_threshold_literal},
      {"sparsegen", sparsegen},
      {"head_softmax", head_softmax},
      {"head_sigmoid", head_sigmoid}};
  return kKinds;
}

/// Sum of the rows' entropies. The slope at a share that has underflowed to 0 must be finite:
/// 0 * infinity is no slope.
at::Tensor entropy_sum(const at::Tensor& p_UE) {
  return -at::xlogy(p_UE, p_UE.clamp_min(smallest_positive(p_UE))).sum(at::kDouble);
}

}  // namespace

Selection select(const RouterConfig& config, const at::Tensor& logit_UE,
                 const at::Tensor& threshold_U1) {
  if (config.has_threshold() != threshold_U1.defined()) {
    throw base::ShapeError(
        "router of kind " + config.kind +
        (threshold_U1.defined() ? " has no threshold" : " needs its threshold's input"));
  }
  return kinds().at(config.kind)({config, logit_UE, threshold_U1});
}

at::Tensor statistics_of(const RouterConfig& config, const Selection& selection) {
  const auto& p_UE = selection.p_UE;
  const auto w_UE = selection.w_UE.detach();
  // H(w) carries a gradient only where w is p itself: at a selection's zeros it would be infinite.
  const bool is_dense = selection.w_UE.is_same(p_UE);
  const bool independent = config.is_independent();
  const auto shares_UE = independent ? renormalised(p_UE) : p_UE;
  const auto chosen_UE = independent || config.kind == "head_softmax" ? renormalised(w_UE) : w_UE;
  const auto units =
      at::full({1}, static_cast<double>(p_UE.size(0)), p_UE.options().dtype(at::kDouble));
  std::vector<at::Tensor> parts{p_UE.sum(0, /*keepdim=*/false, at::kDouble),
                                (w_UE > 0).sum(0, /*keepdim=*/false, at::kDouble),
                                entropy_sum(shares_UE).view({1}),
                                entropy_sum(is_dense ? shares_UE : chosen_UE).view({1})};
  if (selection.tau_U1.defined()) parts.push_back(selection.tau_U1.sum(at::kDouble).view({1}));
  parts.push_back(units);
  return at::cat(parts);
}

}  // namespace dfmoa::gates
