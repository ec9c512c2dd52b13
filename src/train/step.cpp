#include "src/train/step.h"

#include <c10/core/AutogradState.h>

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

namespace {

/// Backward runs on the thread that asks for it, whatever the device: it may meet collectives, and
/// only one thread may talk to other processes.
class OneThread {
 public:
  OneThread() { state().set_multithreading_enabled(false); }
  ~OneThread() { state().set_multithreading_enabled(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  static c10::AutogradState& state() { return c10::AutogradState::get_tls_state(); }
  bool before_ = state().get_multithreading_enabled();
};

}  // namespace

/// Forward and backward of one micro-batch. Blocks below the lowest adapted one save nothing.
class Step::Walk {
 public:
  Walk(model::Transformer& model, distributed::ExpertTransport& transport,
       const data::PackedRow& row, const model::StepKey& key, bool keep)
      : model_(model), transport_(transport), rows_(model.pack(row)), key_(key), keep_(keep) {}

  /// Adds to `statistics` unless it is null; `for_backward` false: nothing else is wanted.
  void forward(const BlockVector* statistics, bool for_backward) {
    const auto lowest = model_.lowest_adapted();
    auto x_TD = model_.embed(rows_);
    for (auto& block : model_.blocks()) {
      const bool above = for_backward && block.layer() >= lowest;
      if (above) inputs_.push_back(leaf(x_TD, block.layer()));
      const at::AutoGradMode grad_mode(above && keep_);
      auto out = block.forward(above ? inputs_.back() : x_TD, pass_of(block, +1));
      transport_.release(block);
      if (statistics != nullptr) statistics->of(block).add_(out.statistics_U.detach());
      x_TD = out.y_TD.detach();
      if (out.mix_TE.defined()) mix_TE_ = out.mix_TE.detach();
      if (above && keep_) outputs_.push_back(std::move(out));
    }
    if (for_backward) top_TD_ = x_TD;
  }

  /// Returns the CE sum. `last`: no other micro-batch will add to the gradients.
  at::Tensor backward(double inverse_n_loss, const BlockVector& kappa, bool last) {
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
      dy_TD = block_backward(block, dy_TD, kappa.of(block), last);
    }
    return head.ce_sum;
  }

 private:
  at::Tensor leaf(const at::Tensor& x_TD, std::int64_t layer) const {
    return x_TD.detach().requires_grad_(layer > model_.lowest_adapted());
  }

  /// Everything of a pass; `direction` leads to the block that runs next.
  [[nodiscard]] model::Pass pass_of(const model::Block& block, std::int64_t direction) {
    const auto next = block.layer() + direction;
    const bool is_adapted =
        next >= model_.lowest_adapted() && next < static_cast<std::int64_t>(model_.blocks().size());
    const auto* neighbour = is_adapted ? &model_.blocks()[static_cast<std::size_t>(next)] : nullptr;
    model::Pass pass{rows_, key_};
    pass.part = &transport_.fetch(block, neighbour);
    pass.tokens = transport_.tokens();
    pass.heads = transport_.heads();
    return pass;
  }

  at::Tensor block_backward(model::Block& block, const at::Tensor& dy_TD, const at::Tensor& kappa_U,
                            bool last) {
    const auto x_TD = inputs_.back();
    inputs_.pop_back();
    model::BlockOutput out;
    const auto pass = pass_of(block, -1);
    if (keep_) {
      out = std::move(outputs_.back());
      outputs_.pop_back();
    } else {
      const at::AutoGradMode grad_mode(true);
      out = block.forward(x_TD, pass);
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
    const auto& leaves = pass.part->parameters.leaves();
    wanted.insert(wanted.end(), leaves.begin(), leaves.end());
    const OneThread one_thread;
    auto gradients = torch::autograd::grad(roots, wanted, seeds, /*retain_graph=*/false,
                                           /*create_graph=*/false, /*allow_unused=*/true);
    at::Tensor dx_TD;
    if (x_TD.requires_grad()) {
      dx_TD = gradients.front();
      gradients.erase(gradients.begin());
    }
    transport_.release(block);
    if (!gradients.empty()) transport_.add(block, gradients, last);
    return dx_TD;
  }

  model::Transformer& model_;
  distributed::ExpertTransport& transport_;
  model::PackedRows rows_;
  model::StepKey key_;
  bool keep_;
  std::vector<at::Tensor> inputs_;
  std::vector<model::BlockOutput> outputs_;
  at::Tensor top_TD_;
  at::Tensor mix_TE_;  // gates of the experts' logits, and their gradient
  at::Tensor dmix_TE_;
};

Step::Step(model::Transformer& model, std::vector<BlockEntropy>& entropy,
           distributed::ExpertTransport& transport, const StepOptions& options)
    : model_(model),
      entropy_(entropy),
      transport_(transport),
      comm_(transport.mesh().world()),
      options_(options) {
  for (const auto& block : entropy) num_routers_ += static_cast<double>(block.size());
}

void Step::announce(std::span<const data::PackedRow> rows, const ExpectedRank& expected,
                    StepResult& result) const {
  std::array<double, 3> sums{0, expected[0], expected[1]};
  for (std::size_t m = 0; m < rows.size(); ++m) {
    const bool own = m % static_cast<std::size_t>(comm_.num_processes()) ==
                     static_cast<std::size_t>(comm_.process());
    if (own) sums[0] += static_cast<double>(rows[m].loss_tokens());
  }
  comm_.all_reduce(sums.data(), 3, base::DType::f64, comm::Op::sum, "C0");
  result.n_loss = sums[0];
  result.expected = {sums[1], sums[2]};
  if (result.n_loss > 0) return;
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
    const auto vectors =
        model::statistics_by_router(model_.blocks()[layer].whole().routers, statistics[layer]);
    for (std::size_t r = 0; r < vectors.size(); ++r) {
      const auto& entropy = entropy_[layer][r];
      for (const double slope : entropy.gradient(vectors[r])) {
        all.push_back(entropy.summed() ? slope : slope / num_routers_);
      }
    }
  }
  return all;
}

double Step::balance_value(const std::vector<std::vector<double>>& statistics) const {
  double total = 0;
  for (std::size_t layer = 0; layer < statistics.size(); ++layer) {
    const auto vectors =
        model::statistics_by_router(model_.blocks()[layer].whole().routers, statistics[layer]);
    for (std::size_t r = 0; r < vectors.size(); ++r) {
      const auto value = entropy_[layer][r].value(vectors[r]);
      total += entropy_[layer][r].summed() ? value : value / num_routers_;
    }
  }
  return total;
}

std::vector<std::vector<double>> Step::uniform_statistics() const {
  std::vector<std::vector<double>> all;
  for (const auto& block : model_.blocks()) {
    std::vector<double> uniform;
    for (const auto& router : block.whole().routers) {
      const auto one = router.layout().uniform();
      uniform.insert(uniform.end(), one.begin(), one.end());
    }
    all.push_back(std::move(uniform));
  }
  return all;
}

StepResult Step::run(std::span<const data::PackedRow> rows, const model::StepKey& key,
                     const std::vector<std::vector<double>>& last_statistics,
                     const ExpectedRank& expected) {
  StepResult result;
  announce(rows, expected, result);
  transport_.begin_step();
  const data::PackedRow empty_slot;
  const auto processes = static_cast<std::size_t>(comm_.num_processes());
  std::vector<const data::PackedRow*> mine;
  for (std::size_t slot = 0; slot * processes < rows.size(); ++slot) {
    const auto m = slot * processes + static_cast<std::size_t>(comm_.process());
    mine.push_back(m < rows.size() ? &rows[m] : &empty_slot);
  }
  const auto walk_of = [&](const data::PackedRow& row, bool keep) {
    return Walk(model_, transport_, row, key, keep);
  };

  const auto counted = zero_statistics(model_);
  std::optional<BlockVector> slopes;
  // With one micro-batch a process the forward that backward needs gives the statistics too.
  const bool one_pass = rows.size() <= processes || options_.lag_one;
  if (options_.lag_one) {
    slopes.emplace(model_, kappa(last_statistics.empty() ? uniform_statistics() : last_statistics));
  } else if (!one_pass) {
    for (const auto* row : mine) {
      const at::NoGradGuard no_grad;
      walk_of(*row, false).forward(&counted, /*for_backward=*/false);
    }
    result.statistics = sum_over_world(counted.all());
    slopes.emplace(model_, kappa(result.statistics));
  }
  for (std::size_t m = 0; m < mine.size(); ++m) {
    auto walk = walk_of(*mine[m], options_.keep);
    walk.forward(one_pass ? &counted : nullptr, /*for_backward=*/true);
    if (one_pass && !options_.lag_one) {
      result.statistics = sum_over_world(counted.all());
      slopes.emplace(model_, kappa(result.statistics));
    }
    const auto ce = walk.backward(1.0 / result.n_loss, *slopes, m + 1 == mine.size());
    result.ce_sum = m == 0 ? ce : result.ce_sum + ce;
  }
  transport_.finish_step();
  if (options_.lag_one) result.statistics = sum_over_world(counted.all());
  result.balance = balance_value(result.statistics);
  return result;
}

}  // namespace dfmoa::train
