// What every system's step costs over the frozen base, what gates on attention cost over attention,
// and what the cache is worth while decoding.
#include <torch/torch.h>

#include "launch/bench/bench.h"
#include "launch/bench/trained.h"
#include "src/base/text.h"
#include "src/model/generate.h"
#include "src/ops/attention.h"

namespace dfmoa::launch::bench {
namespace {

struct NamedPlan {
  std::string name;
  model::AdapterPlan plan;
  bool is_router = false;  ///< the same experts behind another router than softmax
};

model::AdapterPlan mixed_kinds() {
  model::AdapterPlan plan;
  auto& lora = plan.adapters["lora"];
  lora.sites = {"q", "k", "v", "o", "down"};
  lora.experts = 1;
  for (const std::string side : {"parallel", "prompt"}) {
    plan.adapters[side].kind = side;
    plan.adapters[side].experts = 1;
  }
  for (auto& [name, adapter] : plan.adapters) adapter.router = "block";
  plan.routers["block"].kind = "sigmoid";
  plan.routers["block"].network = "mlp";
  plan.routers["block"].over = "adapters";
  return plan;
}

model::AdapterPlan gated_attention() {
  auto plan = experts_behind("softmax");
  plan.dfa.router = "heads";
  plan.dfa.rank_gate = "dimensions";
  plan.routers["heads"] = {};
  plan.rank_gates["dimensions"] = {};
  return plan;
}

std::vector<NamedPlan> plans() {
  std::vector<NamedPlan> all{{"softmax", experts_behind("softmax")}};
  for (const std::string kind :
       {"topk", "threshold", "sigmoid", "sigmoid_threshold", "sparsegen"}) {
    all.push_back({kind, experts_behind(kind), true});
  }
  for (const std::string scope : {"running_mean", "prompt_mean"}) {
    all.push_back({"softmax_" + scope, experts_behind("softmax"), true});
    all.back().plan.routers["main"].scope = scope;
  }
  all.push_back({"softmax_mlp", experts_behind("softmax"), true});
  all.back().plan.routers["main"].network = "mlp";
  all.push_back({"shared_a", experts_behind("softmax")});
  all.back().plan.adapters["main"].shared_a = true;
  all.push_back({"heterogeneous", mixed_kinds()});
  all.push_back({"dfa", gated_attention()});
  return all;
}

/// One after the other in every round, so that a slow moment of the machine hits all alike.
std::vector<Bar> systems(const BenchOptions& options, const Limits& /*limits*/) {
  const auto base = base_of(options);
  const std::vector<data::PackedRow> rows{full_row(options.tokens, base->architecture.vocabulary)};
  Trained frozen(base, {});
  const auto named = plans();
  std::vector<std::unique_ptr<Trained>> trained;
  for (const auto& plan : named) trained.push_back(std::make_unique<Trained>(base, plan.plan));
  const Repeat once{0, 1};
  std::vector<double> frozen_s;
  std::vector<std::vector<double>> seconds(named.size());
  for (int round = 0; round < options.repeat.warm_up + options.repeat.samples; ++round) {
    const bool counts = round >= options.repeat.warm_up;
    const auto base_s = measure(once, [&] { frozen.frozen_step(rows[0]); }).median();
    if (counts) frozen_s.push_back(base_s);
    for (std::size_t i = 0; i < named.size(); ++i) {
      const auto step_s = measure(once, [&] { trained[i]->step(rows, /*keep=*/true); }).median();
      if (counts) seconds[i].push_back(step_s);
    }
  }
  std::vector<Bar> bars;
  for (std::size_t i = 0; i < named.size(); ++i) {
    bars.push_back(
        {"systems." + named[i].name,
         base::text("step of ", named[i].name, " over the frozen base's, T ", options.tokens),
         median(seconds[i]) / median(frozen_s), "ratio", seconds[i]});
    if (!named[i].is_router) continue;
    bars.push_back({"systems." + named[i].name + ".router",
                    "the same step over that behind a softmax router (at most)",
                    median(seconds[i]) / median(seconds[0]), "ratio", seconds[i]});
    bars.back().bar = 1.10;
  }
  return bars;
}

/// G18: forward and backward of attention with gates on dimensions and heads, over attention alone.
std::vector<Bar> gates_of_attention(const BenchOptions& options, const Limits& /*limits*/) {
  const std::int64_t tokens = 1024, heads = 9, groups = 3, channels = 64;
  const auto leaf = [](at::IntArrayRef shape) { return at::randn(shape).requires_grad_(); };
  const auto q = leaf({tokens, heads, channels});
  const auto k = leaf({tokens, groups, channels});
  const auto v = leaf({tokens, groups, channels});
  const auto z_qk = leaf({1, groups * channels / 2});
  const auto z_v = leaf({1, heads * channels});
  const auto gate_TH = leaf({tokens, heads});
  const auto dy = at::randn({tokens, heads * channels});
  const model::DimensionMask qk{"qk", groups, channels / 2, {}};
  const model::DimensionMask values{"v", heads, channels, {}};
  const auto plain = [&] {
    const auto y = ops::packed_attention(q, k, v, {0, tokens});
    (void)torch::autograd::grad({y}, {q, k, v}, {dy});
  };
  const auto gated = [&] {
    const auto masked = model::gate_dimensions(q, qk, z_qk, {});
    auto out = ops::packed_attention(masked, k, v, {0, tokens}).view({tokens, heads, channels});
    out = model::gate_dimensions(out, values, z_v, {}, gate_TH);
    (void)torch::autograd::grad({out.view({tokens, -1})}, {q, k, v, z_qk, z_v, gate_TH}, {dy});
  };
  const Repeat once{0, 1};
  std::vector<double> plain_s, gated_s;
  for (int round = 0; round < options.repeat.warm_up + options.repeat.samples; ++round) {
    const auto one = measure(once, plain).median();
    const auto other = measure(once, gated).median();
    if (round < options.repeat.warm_up) continue;
    plain_s.push_back(one);
    gated_s.push_back(other);
  }
  Bar bar{"G18", "gated attention over attention, 9 heads in 3 groups, T 1024 (at most)",
          median(gated_s) / median(plain_s), "ratio", gated_s};
  bar.bar = 1.15;
  bar.stretch = 1.05;
  return {bar};
}

/// Greedy tokens behind a short prompt, over a cache and by whole forwards.
std::vector<Bar> decoding(const BenchOptions& options, const Limits& /*limits*/) {
  constexpr std::int64_t kGenerated = 256;
  const Trained trained(base_of(options), experts_behind("softmax"));
  model::SamplingConfig sampling;
  sampling.greedy = true;
  sampling.tokens = kGenerated;
  const model::Generator generator(trained.model(), sampling, {});
  const std::vector<std::int32_t> prompt{1, 2, 3, 4, 5, 6, 7, 8};
  const auto cached = measure({0, 1}, [&] { (void)generator.run({prompt}, {}); });
  const auto whole = measure({0, 1}, [&] {
    auto text = prompt;
    for (std::int64_t t = 0; t < kGenerated; ++t) {
      const auto x_TD = trained.model().hidden(trained.model().pack_sequences({text}, {0}));
      const auto last = at::full({1}, x_TD.size(0) - 1, at::kLong);
      text.push_back(trained.model().logits(x_TD, last).argmax().item<std::int32_t>());
    }
  });
  Bar bar{"decode",
          base::text("time of ", kGenerated, " tokens without a cache over that with it"),
          whole.median() / cached.median(),
          "ratio",
          {cached.median(), whole.median()}};
  bar.bar = 5;
  return {bar,
          {"decode.rate", "tokens generated per second, one sequence",
           static_cast<double>(kGenerated) / cached.median(), "tokens/s", cached.seconds}};
}

}  // namespace

std::vector<Measurement> system_measurements() {
  return {{"systems", "step of every system over the frozen base", systems, "model"},
          {"G18", "gates on attention", gates_of_attention, ""},
          {"decode", "generation with and without a cache", decoding, "model"}};
}

}  // namespace dfmoa::launch::bench
