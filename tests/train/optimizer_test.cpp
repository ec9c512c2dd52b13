#include "src/train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include "tests/support/lone_transport.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::train {
namespace {

constexpr double kRate = 3e-2;
constexpr double kRouterRate = 7e-3;
constexpr double kGateRate = 5e-2;

TrainConfig settings() {
  TrainConfig config;
  config.beta1 = 0.8;
  config.beta2 = 0.95;
  config.epsilon = 1e-6;
  config.weight_decay = 0.3;
  return config;
}

model::Transformer mixture() {
  model::TinyShape shape;
  shape.layers = 1;
  model::Transformer mixed(model::tiny_base(shape, at::kDouble));
  auto plan = model::tiny_plan("token");
  plan.routers["main"].learning_rate = kRouterRate;
  plan.rank_gates["gate"] = {};
  plan.adapters["mix"].rank_gate = "gate";
  mixed.adapt(plan, 3);
  model::stir(mixed);
  return mixed;
}

/// LibTorch's own AdamW on a copy of one leaf.
class Oracle {
 public:
  Oracle(const at::Tensor& leaf, const std::string& name)
      : value_(leaf.detach().clone().requires_grad_()), optimizer_({value_}, options_of(name)) {}

  void step(const at::Tensor& gradient) {
    value_.mutable_grad() = gradient.clone();
    optimizer_.step();
  }
  [[nodiscard]] at::Tensor value() const { return value_.detach(); }

 private:
  static torch::optim::AdamWOptions options_of(const std::string& name) {
    const auto config = settings();
    const bool is_router = name.starts_with("router/");
    const bool is_gate = name.ends_with("/logit");
    torch::optim::AdamWOptions options(is_gate ? kGateRate : is_router ? kRouterRate : kRate);
    options.betas({config.beta1, config.beta2});
    options.eps(config.epsilon);
    options.weight_decay(is_gate || is_router ? 0.0 : config.weight_decay);
    return options;
  }

  at::Tensor value_;
  torch::optim::AdamW optimizer_;
};

/// Decay for adapters only, rates of their own for a router and for rank gates.
TEST(Optimizer, is_adamw_of_libtorch_in_every_group) {
  auto mixed = mixture();
  auto& parameters = mixed.blocks()[0].parameters();
  std::vector<Oracle> oracles;
  for (std::size_t i = 0; i < parameters.specs().size(); ++i) {
    oracles.emplace_back(parameters.leaves()[i], parameters.specs()[i].name);
  }
  const Optimizer optimizer(settings());
  for (std::int64_t step = 0; step < 5; ++step) {
    for (std::size_t i = 0; i < parameters.specs().size(); ++i) {
      auto gradient = parameters.gradient(i);
      gradient.copy_(model::random_normal(gradient.sizes(), 1.0, static_cast<std::uint64_t>(step),
                                          parameters.specs()[i].name));
      oracles[i].step(gradient);
    }
    optimizer.step(mixed.blocks(), {kRate, 1.0, kGateRate}, step + 1);
  }
  for (std::size_t i = 0; i < parameters.specs().size(); ++i) {
    const auto worst = (parameters.leaves()[i] - oracles[i].value()).abs().max().item<double>();
    EXPECT_LE(worst, 1e-12) << parameters.specs()[i].name;
  }
}

TEST(Optimizer, sgd_takes_the_gradient_as_it_is) {
  auto config = settings();
  config.optimizer = "sgd";
  auto mixed = mixture();
  auto& parameters = mixed.blocks()[0].parameters();
  const auto index = parameters.index_of("mlp_out/down/b");
  const auto before = parameters.leaves()[index].detach().clone();
  auto gradient = parameters.gradient(index);
  gradient.fill_(2.0);
  Optimizer(config).step(mixed.blocks(), {0.1, 1.0, 0.0}, 1);
  EXPECT_LE((parameters.leaves()[index] - (before - 0.2)).abs().max().item<double>(), 1e-15);
}

TEST(Optimizer, the_gradient_norm_is_that_of_all_blocks_and_scaling_scales_it) {
  auto mixed = mixture();
  auto& parameters = mixed.blocks()[0].parameters();
  double squares = 0;
  for (std::size_t i = 0; i < parameters.specs().size(); ++i) {
    auto gradient = parameters.gradient(i);
    gradient.copy_(model::random_normal(gradient.sizes(), 1.0, 5, parameters.specs()[i].name));
    squares += gradient.square().sum().item<double>();
  }
  EXPECT_NEAR((*LoneTransport(mixed)).squared_norm_share().item<double>() / squares, 1, 1e-12);
  scale_gradients(mixed.blocks(), 0.5);
  EXPECT_NEAR((*LoneTransport(mixed)).squared_norm_share().item<double>() / squares, 0.25, 1e-12);
}

}  // namespace
}  // namespace dfmoa::train
