#include "src/train/optimizer.h"

namespace dfmoa::train {
namespace {

using adapters::ParameterGroup;

void adamw(const adapters::ParameterSet::Flat& flat, double rate, double decay,
           const TrainConfig& config, std::int64_t updates) {
  const auto steps = at::full({}, static_cast<double>(updates), at::kFloat);
  at::_fused_adamw_({flat.value}, {flat.gradient}, {flat.moment1}, {flat.moment2}, {}, {steps},
                    rate, config.beta1, config.beta2, decay, config.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
}

}  // namespace

void Optimizer::step(std::vector<model::Block>& blocks, const Rates& rates,
                     std::int64_t updates) const {
  const at::NoGradGuard no_grad;
  const std::array<std::pair<ParameterGroup, double>, adapters::kNumParameterGroups> groups{
      {{ParameterGroup::adapter, rates.adapter},
       {ParameterGroup::router, rates.router},
       {ParameterGroup::rank_gate, rates.rank_gate}}};
  for (auto& block : blocks) {
    if (block.parameters().empty()) continue;
    for (const auto& [group, rate] : groups) {
      auto flat = block.parameters().flat(group);
      if (flat.value.numel() == 0 || rate == 0) continue;
      if (config_.optimizer == "sgd") {
        flat.value.add_(flat.gradient, -rate);
      } else {
        const double decay = group == ParameterGroup::adapter ? config_.weight_decay : 0.0;
        adamw(flat, rate, decay, config_, updates);
      }
    }
  }
}

double squared_gradient_norm(const std::vector<model::Block>& blocks) {
  double total = 0;
  for (const auto& block : blocks) {
    if (block.parameters().empty()) continue;
    const auto& gradient = block.parameters().flat_gradient();
    total += at::linalg_vector_norm(gradient, 2, std::nullopt, false, at::kDouble)
                 .square()
                 .item<double>();
  }
  return total;
}

void scale_gradients(std::vector<model::Block>& blocks, double factor) {
  for (auto& block : blocks) {
    if (block.parameters().empty()) continue;
    auto gradient = block.parameters().flat_gradient();
    gradient.mul_(factor);
  }
}

}  // namespace dfmoa::train
