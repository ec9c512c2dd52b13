#include "launch/bench/trained.h"

#include <torch/torch.h>

#include <cmath>

#include "distributed/comm/local.h"
#include "src/base/random.h"
#include "src/train/state.h"

namespace dfmoa::launch::bench {

data::PackedRow full_row(std::int64_t tokens, std::int64_t vocabulary) {
  const base::KeyedRandom random(1, {base::key_word("bench")});
  data::PackedRow row;
  const auto bound = static_cast<std::uint64_t>(vocabulary);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto at = static_cast<std::uint64_t>(t);
    row.token_T.push_back(static_cast<std::int64_t>(random.below(at, bound)));
    row.position_T.push_back(t);
    row.target_T.push_back(t + 1 < tokens ? static_cast<std::int64_t>(random.below(at + 1, bound))
                                          : -1);
  }
  row.document_begin = {0, tokens};
  row.document_id = {0};
  row.prompt_end = {tokens / 8};
  row.span_begin = {0};
  row.span_end = {0};
  row.task = {""};
  row.where = {"bench"};
  return row;
}

std::shared_ptr<const model::BaseModel> base_of(const BenchOptions& options) {
  return model::load_base_model({options.model, "nf4"}, at::kFloat);
}

model::AdapterPlan experts_behind(const std::string& kind) {
  model::AdapterPlan plan;
  plan.adapters["main"].router = "main";
  plan.routers["main"].kind = kind;
  return plan;
}

Trained::Trained(std::shared_ptr<const model::BaseModel> base, const model::AdapterPlan& plan)
    : base_(std::move(base)),
      model_(base_),
      comm_(comm::make_single()),
      transport_(model_, *comm_, {}, /*keeps_graphs=*/true) {
  transport_.adapt(plan, 1);
  entropy_ = train::make_entropy(model_);
}

void Trained::step(const std::vector<data::PackedRow>& rows, bool keep) {
  train::Step one(model_, entropy_, transport_, {keep, /*lag_one=*/false});
  (void)one.run(rows, {1, updates_, model::RankPhase::settled}, {});
  const double norm = std::sqrt(transport_.squared_norm_share().item<double>());
  if (norm > 1) train::scale_gradients(model_.blocks(), 1 / norm);
  updates_ += 1;
  optimizer_.step(model_.blocks(), {2e-4, 1, 0}, updates_);
}

void Trained::frozen_step(const data::PackedRow& row) {
  const auto rows = model_.pack(row);
  const model::StepKey key;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> outputs;
  auto x_TD = model_.embed(rows);
  for (auto& block : model_.blocks()) {
    inputs.push_back(x_TD.detach().requires_grad_());
    outputs.push_back(block.forward(inputs.back(), {rows, key}).y_TD);
    x_TD = outputs.back().detach();
  }
  auto dy_TD = model_.head(x_TD, rows, 1, /*want_gradient=*/true).dx_TD;
  while (!outputs.empty()) {
    dy_TD = torch::autograd::grad({outputs.back()}, {inputs.back()}, {dy_TD})[0];
    outputs.pop_back();
    inputs.pop_back();
  }
}

double Trained::flops(std::int64_t tokens, std::int64_t loss_tokens) const {
  const auto& shape = architecture();
  const auto kv = shape.kv_heads * shape.head_dim;
  const auto q = shape.heads * shape.head_dim;
  const auto mlp_linears = shape.activation == model::Activation::swiglu ? 3 : 2;
  const auto linear = shape.hidden * (2 * q + 2 * kv + mlp_linears * shape.intermediate);
  double low_rank = 0;
  for (const auto& block : model_.blocks()) {
    for (const auto& group : block.adapters().groups) {
      low_rank += static_cast<double>(group.directions() * group.in_features);
      for (const auto& site : group.sites) {
        low_rank += static_cast<double>(site.directions() * site.out_features);
      }
    }
  }
  const auto t = static_cast<double>(tokens);
  // causal attention: 2 products forward, 5 backward, half of every one is masked
  const auto attention = 7.0 * t * t * static_cast<double>(q);
  const auto blocks = static_cast<double>(shape.layers);
  return 4.0 * t * static_cast<double>(linear) * blocks + attention * blocks + 6.0 * t * low_rank +
         4.0 * static_cast<double>(loss_tokens * shape.vocabulary * shape.hidden);
}

}  // namespace dfmoa::launch::bench
