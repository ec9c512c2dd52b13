// G6, G13, G15: the whole step on a base model: forward, backward, clipping, update.
#include <torch/torch.h>

#include <cmath>

#include "distributed/comm/local.h"
#include "launch/bench/bench.h"
#include "src/base/error.h"
#include "src/base/random.h"
#include "src/base/text.h"
#include "src/data/loader.h"
#include "src/train/optimizer.h"
#include "src/train/state.h"
#include "src/train/step.h"

namespace dfmoa::launch::bench {
namespace {

/// One document of random tokens, every one but the last with a target.
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
  row.prompt_end = {0};
  row.span_begin = {0};
  row.span_end = {0};
  row.task = {""};
  row.where = {"bench"};
  return row;
}

/// A base model with E8 R8 on all seven sites, or without adapters.
class Trained {
 public:
  Trained(const std::string& path, bool adapted)
      : base_(model::load_base_model({path, "nf4"}, at::kFloat)), model_(base_) {
    if (adapted) {
      model::AdapterPlan plan;
      plan.adapters["main"].router = "main";
      plan.routers["main"] = {};
      model_.adapt(plan, 1);
    }
    entropy_ = train::make_entropy(model_);
  }

  void step(const std::vector<data::PackedRow>& rows, bool keep) {
    train::Step one(model_, entropy_, *comm_, {keep, /*lag_one=*/false});
    (void)one.run(rows, {1, updates_, model::RankPhase::settled}, {});
    const double norm = std::sqrt(train::squared_gradient_norm(model_.blocks()).item<double>());
    if (norm > 1) train::scale_gradients(model_.blocks(), 1 / norm);
    updates_ += 1;
    optimizer_.step(model_.blocks(), {2e-4, 1, 0}, updates_);
  }

  /// Forward and backward to the embedding without adapters: what no fine-tuning can avoid.
  void frozen_step(const data::PackedRow& row) {
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

  [[nodiscard]] const model::Architecture& architecture() const { return base_->architecture; }

  /// Floating-point operations of one step on a full row, with and without adapters.
  [[nodiscard]] double flops(std::int64_t tokens, std::int64_t loss_tokens) const {
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
    return 4.0 * t * static_cast<double>(linear) * blocks + attention * blocks +
           6.0 * t * low_rank +
           4.0 * static_cast<double>(loss_tokens * shape.vocabulary * shape.hidden);
  }

 private:
  std::shared_ptr<const model::BaseModel> base_;
  model::Transformer model_;
  std::vector<train::BlockEntropy> entropy_;
  std::unique_ptr<comm::Communicator> comm_ = comm::make_single();
  train::Optimizer optimizer_{train::TrainConfig{}};
  std::int64_t updates_ = 0;
};

/// G6a, G13 and G15 of one memory form.
std::vector<Bar> whole_step(bool keep, const BenchOptions& options, const Limits& limits) {
  Trained trained(options.model, /*adapted=*/true);
  const std::vector<data::PackedRow> rows{
      full_row(options.tokens, trained.architecture().vocabulary)};
  const std::string form = keep ? "keep" : "recompute";
  const auto measured = measure(options.repeat, [&] { trained.step(rows, keep); });
  auto step = timed("G6a." + form,
                    base::text("whole step, E8 R8 on all sites, NF4 base, fp32, T ", options.tokens,
                               ", memory = ", form),
                    measured);
  const auto rate = trained.flops(options.tokens, rows[0].loss_tokens()) / measured.median();
  Bar share{"G13." + form,
            base::text("floating-point operations per second of that step, share of the product's"),
            rate / limits.mm_flops_per_s, "ratio", measured.seconds};
  if (keep) {  // recompute does a third more work than is counted
    share.bar = 0.75;
    share.stretch = 0.85;
  }
  return {step, share};
}

std::vector<Bar> frozen(const BenchOptions& options, const Limits& /*limits*/) {
  Trained trained(options.model, /*adapted=*/false);
  const auto row = full_row(options.tokens, trained.architecture().vocabulary);
  return {timed("frozen", base::text("frozen NF4 base forward and backward, T ", options.tokens),
                measure(options.repeat, [&] { trained.frozen_step(row); }))};
}

/// G6b: documents as they come, prompts masked, 16 in a step.
std::vector<Bar> documents(const BenchOptions& options, const Limits& /*limits*/) {
  constexpr std::int64_t kDocuments = 16;
  Trained trained(options.model, /*adapted=*/true);
  data::DataConfig config;
  config.train = {options.data};
  config.order = "file";
  const auto tokenizer = data::Tokenizer::from_directory(options.model);
  const data::SampleReader reader(config, tokenizer, options.model);
  data::Loader loader(config, {1, 0, kDocuments}, reader, 1);
  return {timed("G6b",
                base::text("whole step on ", kDocuments, " short documents of ", options.data),
                measure(options.repeat, [&] { trained.step(loader.next_step(), true); }))};
}

}  // namespace

std::vector<Measurement> step_measurements() {
  return {
      {"G6a.keep", "whole step, G6a and G13",
       [](const auto& options, const auto& limits) { return whole_step(true, options, limits); },
       "model"},
      {"G6a.recompute", "the same in the other memory form",
       [](const auto& options, const auto& limits) { return whole_step(false, options, limits); },
       "model"},
      {"frozen", "the base alone, which G15 subtracts", frozen, "model"},
      {"G6b", "whole step on instruction data", documents, "data"}};
}

std::vector<Measurement> all_measurements() {
  auto all = kernel_measurements();
  for (auto& more : {linear_measurements(), step_measurements()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

}  // namespace dfmoa::launch::bench
