#include "src/train/step.h"

#include "distributed/gradient_reduction.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/model/logit_mixture.h"

namespace dfmoa::train {
namespace {

/// One number per statistic of a model, all blocks' one after the other, fp64 where the model
/// computes: the host reads them once, in C1.
class BlockVector {
 public:
  BlockVector(const model::Transformer& model, const std::vector<double>& values)
      : all_(torch::tensor(values, torch::kDouble).to(model.base().embedding_VD.device())) {
    for (const auto& block : model.blocks()) {
      parts_.push_back(all_.narrow(0, size_, block.statistics_size()));
      size_ += block.statistics_size();
    }
  }

  [[nodiscard]] const at::Tensor& all() const { return all_; }
  [[nodiscard]] at::Tensor of(const model::Block& block) const {
    return parts_[static_cast<std::size_t>(block.layer())];
  }

 private:
  std::int64_t size_ = 0;
  at::Tensor all_;
  std::vector<at::Tensor> parts_;
};

BlockVector zero_statistics(const model::Transformer& model) {
  std::int64_t size = 0;
  for (const auto& block : model.blocks()) size += block.statistics_size();
  return {model, std::vector<double>(static_cast<std::size_t>(size), 0.0)};
}

}  // namespace

/// Forward and backward of one micro-batch. Blocks below the lowest adapted one save nothing.
class Step::Walk {
 public:
  Walk(model::Transformer& model, const data::PackedRow& row, const model::StepKey& key, bool keep)
      : model_(model), rows_(model.pack(row)), key_(key), keep_(keep) {}

  /// Adds to `statistics` unless it is null; `for_backward` false: nothing else is wanted.
  void forward(const BlockVector* statistics, bool for_backward) {
    const auto lowest = model_.lowest_adapted();
    auto x_TD = model_.embed(rows_);
    for (auto& block : model_.blocks()) {
      const bool above = for_backward && block.layer() >= lowest;
      if (above) inputs_.push_back(leaf(x_TD, block.layer()));
      const at::AutoGradMode grad_mode(above && keep_);
      auto out = block.forward(above ? inputs_.back() : x_TD, {rows_, key_});
      if (statistics != nullptr) statistics->of(block).add_(out.statistics_U.detach());
      x_TD = out.y_TD.detach();
      if (out.mix_TE.defined()) mix_TE_ = out.mix_TE.detach();
      if (above && keep_) outputs_.push_back(std::move(out));
    }
    if (for_backward) top_TD_ = x_TD;
  }

  /// Returns the CE sum. `reduce(layer)` is called after a block's gradients are complete.
  template <class Reduce>
  at::Tensor backward(double inverse_n_loss, const BlockVector& kappa, Reduce&& reduce) {
    const auto mixed_TD = model_.mix(top_TD_, mix_TE_);
    auto head = model_.head(mixed_TD, rows_, inverse_n_loss, /*want_gradient=*/true);
    auto dy_TD = head.dx_TD;
    if (model_.mixes_logits()) {
      std::tie(dy_TD, dmix_TE_) = mix_normed_backward(model_.base(), dy_TD, top_TD_, mix_TE_);
    }
    const auto lowest = model_.lowest_adapted();
    for (auto layer = static_cast<std::int64_t>(model_.blocks().size()) - 1; layer >= lowest;
         --layer) {
      auto& block = model_.blocks()[static_cast<std::size_t>(layer)];
      dy_TD = block_backward(block, dy_TD, kappa.of(block));
      if (!block.parameters().empty()) reduce(block);
    }
    return head.ce_sum;
  }

 private:
  at::Tensor leaf(const at::Tensor& x_TD, std::int64_t layer) const {
    return x_TD.detach().requires_grad_(layer > model_.lowest_adapted());
  }

  at::Tensor block_backward(model::Block& block, const at::Tensor& dy_TD,
                            const at::Tensor& kappa_U) {
    const auto x_TD = inputs_.back();
    inputs_.pop_back();
    model::BlockOutput out;
    if (keep_) {
      out = std::move(outputs_.back());
      outputs_.pop_back();
    } else {
      const at::AutoGradMode grad_mode(true);
      out = block.forward(x_TD, {rows_, key_});
    }
    std::vector<at::Tensor> roots{out.y_TD};
    std::vector<at::Tensor> seeds{dy_TD};
    if (out.statistics_U.requires_grad()) {  // the second root: balance terms enter here
      roots.push_back(out.statistics_U);
      seeds.push_back(kappa_U);
    }
    if (out.mix_TE.defined()) {  // what mixed the logits comes from this block's router
      roots.push_back(out.mix_TE);
      seeds.push_back(dmix_TE_);
    }
    std::vector<at::Tensor> wanted;
    if (x_TD.requires_grad()) wanted.push_back(x_TD);
    const auto& leaves = block.parameters().leaves();
    wanted.insert(wanted.end(), leaves.begin(), leaves.end());
    auto gradients = torch::autograd::grad(roots, wanted, seeds, /*retain_graph=*/false,
                                           /*create_graph=*/false, /*allow_unused=*/true);
    at::Tensor dx_TD;
    if (x_TD.requires_grad()) {
      dx_TD = gradients.front();
      gradients.erase(gradients.begin());
    }
    if (!gradients.empty()) block.parameters().accumulate(gradients);
    return dx_TD;
  }

  model::Transformer& model_;
  model::PackedRows rows_;
  model::StepKey key_;
  bool keep_;
  std::vector<at::Tensor> inputs_;
  std::vector<model::BlockOutput> outputs_;
  at::Tensor top_TD_;
  at::Tensor mix_TE_;  // gates of the experts' logits, and their gradient
  at::Tensor dmix_TE_;
};

Step::Step(model::Transformer& model, std::vector<BlockEntropy>& entropy, comm::Communicator& comm,
           const StepOptions& options)
    : model_(model), entropy_(entropy), comm_(comm), options_(options) {
  for (const auto& block : entropy) num_routers_ += static_cast<double>(block.size());
}

double Step::global_loss_tokens(std::span<const data::PackedRow> rows) const {
  double mine = 0;
  for (std::size_t m = 0; m < rows.size(); ++m) {
    const bool own = m % static_cast<std::size_t>(comm_.num_processes()) ==
                     static_cast<std::size_t>(comm_.process());
    if (own) mine += static_cast<double>(rows[m].loss_tokens());
  }
  comm_.all_reduce(&mine, 1, base::DType::f64, comm::Op::sum, "C0");
  if (mine > 0) return mine;
  std::vector<std::string> where;
  for (const auto& row : rows) where.insert(where.end(), row.where.begin(), row.where.end());
  where.resize(std::min<std::size_t>(where.size(), 8));
  throw base::ContentError(base::text("no token of this step bears loss (documents ",
                                      base::join(where, ", "),
                                      "): expected at least one trained answer"));
}

std::vector<std::vector<double>> Step::sum_over_world(const at::Tensor& statistics) const {
  const auto host = statistics.to(at::kCPU);  // the one thing of a forward that the host reads
  auto* from = host.mutable_data_ptr<double>();
  comm_.all_reduce(from, host.numel(), base::DType::f64, comm::Op::sum, "C1");
  std::vector<std::vector<double>> blocks;
  for (const auto& block : model_.blocks()) {
    blocks.emplace_back(from, from + block.statistics_size());
    from += block.statistics_size();
  }
  return blocks;
}

std::vector<double> Step::kappa(const std::vector<std::vector<double>>& statistics) const {
  std::vector<double> all;
  for (std::size_t layer = 0; layer < statistics.size(); ++layer) {
    std::size_t begin = 0;
    const auto& routers = model_.blocks()[layer].adapters().routers;
    for (std::size_t r = 0; r < routers.size(); ++r) {
      const auto size = static_cast<std::size_t>(routers[r].layout().size());
      const auto& entropy = entropy_[layer][r];
      for (const double slope :
           entropy.gradient(std::span(statistics[layer]).subspan(begin, size))) {
        all.push_back(entropy.summed() ? slope : slope / num_routers_);
      }
      begin += size;
    }
  }
  return all;
}

double Step::balance_value(const std::vector<std::vector<double>>& statistics) const {
  double total = 0;
  for (std::size_t layer = 0; layer < statistics.size(); ++layer) {
    std::size_t begin = 0;
    const auto& routers = model_.blocks()[layer].adapters().routers;
    for (std::size_t r = 0; r < routers.size(); ++r) {
      const auto size = static_cast<std::size_t>(routers[r].layout().size());
      const auto value =
          entropy_[layer][r].value(std::span(statistics[layer]).subspan(begin, size));
      total += entropy_[layer][r].summed() ? value : value / num_routers_;
      begin += size;
    }
  }
  return total;
}

std::vector<std::vector<double>> Step::uniform_statistics() const {
  std::vector<std::vector<double>> all;
  for (const auto& block : model_.blocks()) {
    std::vector<double> uniform;
    for (const auto& router : block.adapters().routers) {
      const auto one = router.layout().uniform();
      uniform.insert(uniform.end(), one.begin(), one.end());
    }
    all.push_back(std::move(uniform));
  }
  return all;
}

StepResult Step::run(std::span<const data::PackedRow> rows, const model::StepKey& key,
                     const std::vector<std::vector<double>>& last_statistics) {
  StepResult result;
  result.n_loss = global_loss_tokens(rows);
  for (auto& block : model_.blocks()) block.parameters().zero_gradient();
  const data::PackedRow empty_slot;
  std::vector<const data::PackedRow*> mine;
  const auto processes = static_cast<std::size_t>(comm_.num_processes());
  for (auto m = static_cast<std::size_t>(comm_.process()); m < rows.size(); m += processes) {
    mine.push_back(&rows[m]);
  }
  if (mine.empty()) mine.push_back(&empty_slot);  // no tokens, the same collectives

  const auto counted = zero_statistics(model_);
  std::optional<BlockVector> slopes;
  // With one micro-batch a process the forward that backward needs gives the statistics too.
  const bool one_pass = rows.size() <= processes || options_.lag_one;
  if (options_.lag_one) {
    slopes.emplace(model_, kappa(last_statistics.empty() ? uniform_statistics() : last_statistics));
  } else if (!one_pass) {
    for (const auto* row : mine) {
      const at::NoGradGuard no_grad;
      Walk(model_, *row, key, false).forward(&counted, /*for_backward=*/false);
    }
    result.statistics = sum_over_world(counted.all());
    slopes.emplace(model_, kappa(result.statistics));
  }
  distributed::GradientReduction reduction(comm_);
  for (std::size_t m = 0; m < mine.size(); ++m) {
    Walk walk(model_, *mine[m], key, options_.keep);
    walk.forward(one_pass ? &counted : nullptr, /*for_backward=*/true);
    if (one_pass && !options_.lag_one) {
      result.statistics = sum_over_world(counted.all());
      slopes.emplace(model_, kappa(result.statistics));
    }
    const bool last = m + 1 == mine.size();
    const auto ce = walk.backward(1.0 / result.n_loss, *slopes, [&](model::Block& block) {
      if (last) reduction.launch(block.layer(), block.parameters().flat_gradient());
    });
    result.ce_sum = m == 0 ? ce : result.ce_sum + ce;
  }
  if (options_.lag_one) result.statistics = sum_over_world(counted.all());
  result.balance = balance_value(result.statistics);
  return result;
}

}  // namespace dfmoa::train
