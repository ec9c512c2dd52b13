#include "src/train/optimizer.h"

namespace dfmoa::train {
namespace {

using adapters::ParameterGroup;

using Flat = adapters::ParameterSet::Flat;

void update(const Flat& part, double rate, double decay, const TrainConfig& config,
            std::int64_t updates) {
  if (part.value.numel() == 0 || rate == 0) return;
  if (config.optimizer == "sgd") {
    part.value.add_(part.gradient, -rate);
    return;
  }
  const auto steps =
      at::full({}, static_cast<double>(updates), part.value.options().dtype(at::kFloat));
  at::_fused_adamw_({part.value}, {part.gradient}, {part.moment1}, {part.moment2}, {}, {steps},
                    rate, config.beta1, config.beta2, decay, config.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
}

}  // namespace

void Optimizer::step(std::vector<model::Block>& blocks, const Rates& rates,
                     std::int64_t updates) const {
  const at::NoGradGuard no_grad;
  for (auto& block : blocks) {
    auto& parameters = block.parameters();
    if (parameters.empty()) continue;
    update(parameters.flat(ParameterGroup::adapter), rates.adapter, config_.weight_decay, config_,
           updates);
    for (const auto& router : block.adapters().routers) {
      const double own = router.config.learning_rate;
      const double rate = own < 0 ? rates.adapter : own * rates.router_share;
      for (const auto index : parameters.indices_under("router/" + router.name + "/")) {
        update({parameters.leaves()[index], parameters.gradient(index), parameters.moment1(index),
                parameters.moment2(index)},
               rate, 0.0, config_, updates);
      }
    }
    update(parameters.flat(ParameterGroup::rank_gate), rates.rank_gate, 0.0, config_, updates);
    update(parameters.flat(ParameterGroup::dimension_gate), rates.dimension_gate, 0.0, config_,
           updates);
  }
}

void scale_gradients(std::vector<model::Block>& blocks, double factor) {
  for (auto& block : blocks) {
    if (block.parameters().empty()) continue;
    auto gradient = block.parameters().flat_gradient();
    gradient.mul_(factor);
  }
}

}  // namespace dfmoa::train
