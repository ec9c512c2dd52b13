#include "src/model/transformer.h"

#include <algorithm>

#include "src/base/dtype.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/model/adapt.h"
#include "src/model/family_ops.h"
#include "src/model/logit_mixture.h"
#include "src/ops/linear_cross_entropy.h"

namespace dfmoa::model {

Transformer::Transformer(std::shared_ptr<const BaseModel> base) : base_(std::move(base)) {
  const auto& layers = base_->layers;
  blocks_.reserve(layers.size());
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    blocks_.emplace_back(static_cast<std::int64_t>(layer), base_->architecture, layers[layer]);
  }
}

void Transformer::adapt(const AdapterPlan& plan, std::uint64_t seed, const HeldBanks& held) {
  auto adapted = plan_blocks(plan, *base_);
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    if (adapted[layer].empty()) continue;
    for (const auto& router : adapted[layer].routers) {
      if (router.config.is_per_document()) scopes_.insert(router.config.scope);
    }
    copies_ = std::max(copies_, adapted[layer].copies);
    auto& block = blocks_[layer];
    auto here = held ? held(adapted[layer], block.shape(), block.layer()) : adapted[layer];
    block.adapt(std::move(adapted[layer]), std::move(here), seed, base_->embedding_VD.options());
  }
}

PackOptions Transformer::pack_options() const {
  return {base_->inverse_frequency, base_->embedding_VD.options(), scopes_, copies_};
}

void Transformer::check(const data::PackedRow& row) const {
  const auto& architecture = base_->architecture;
  for (std::size_t d = 0; d + 1 < row.document_begin.size(); ++d) {
    const auto begin = row.document_begin[d];
    const auto end = row.document_begin[d + 1];
    if (end - begin > architecture.max_positions) {
      throw base::ContentError(base::text(row.where[d], ": the document has ", end - begin,
                                          " tokens, expected at most the ",
                                          architecture.max_positions, " positions of the model"));
    }
    const auto highest = std::max_element(row.token_T.begin() + begin, row.token_T.begin() + end);
    if (begin < end && *highest >= architecture.vocabulary) {
      throw base::ContentError(base::text(row.where[d], ": it holds token ", *highest,
                                          ", expected below the ", architecture.vocabulary,
                                          " rows of the model's embedding"));
    }
  }
}

PackedRows Transformer::pack(const data::PackedRow& row) const {
  check(row);
  return model::pack(row, pack_options());
}

PackedRows Transformer::pack_sequences(
    const std::vector<std::vector<std::int32_t>>& tokens, const std::vector<std::int64_t>& start,
    const std::vector<std::pair<std::int64_t, std::int64_t>>& spans) const {
  const auto most = base_->architecture.max_positions;
  for (std::size_t d = 0; d < tokens.size(); ++d) {
    const auto end = start[d] + static_cast<std::int64_t>(tokens[d].size());
    if (end <= most) continue;
    throw base::ContentError(base::text("sequence ", d, " has ", end,
                                        " tokens, expected at most the ", most,
                                        " positions of the model"));
  }
  return model::pack_sequences(tokens, start, spans, pack_options());
}

at::Tensor Transformer::embed(const PackedRows& rows) const {
  const auto x_TD = base_->embedding_VD.index_select(0, rows.token_T);
  if (!base_->position_PD.defined()) return x_TD;
  return x_TD + base_->position_PD.index_select(0, rows.position_T);
}

at::Tensor Transformer::mix(const at::Tensor& x_TD, const at::Tensor& gate_TE) const {
  return mixes_logits() ? mix_normed(*base_, x_TD, gate_TE) : x_TD;
}

at::Tensor Transformer::normed(const at::Tensor& x_XD) const {
  if (mixes_logits()) return x_XD;
  return norm(base_->architecture, x_XD, base_->final_norm_D, base_->final_norm_bias_D);
}

HeadResult Transformer::head(const at::Tensor& x_TD, const PackedRows& rows, double inverse_n_loss,
                             bool want_gradient) const {
  const at::NoGradGuard no_grad;
  const auto x_XD = x_TD.index_select(0, rows.loss_row_X);
  auto loss = ops::linear_cross_entropy(normed(x_XD), base_->head_VD, rows.target_X, inverse_n_loss,
                                        want_gradient);
  HeadResult result;
  result.nll_X = loss.nll_X;
  result.best_X = loss.best_X;
  result.ce_sum = loss.nll_X.sum();
  if (want_gradient) {
    const auto dx_XD =
        mixes_logits() ? loss.dx_XD
                       : norm_backward(base_->architecture, loss.dx_XD, x_XD, base_->final_norm_D);
    result.dx_TD = at::zeros_like(x_TD);
    result.dx_TD.index_copy_(0, rows.loss_row_X, dx_XD);
  }
  return result;
}

at::Tensor Transformer::hidden(const PackedRows& rows, DecodeCache* cache, GateSink* sink) const {
  const at::NoGradGuard no_grad;
  auto x_TD = embed(rows);
  const auto* gates = gates_.kind == gates::Override::Kind::soft ? nullptr : &gates_;
  if (mixes_logits() && cache != nullptr) cache->hold(copies_);
  at::Tensor mix_TE;
  for (const auto& block : blocks_) {
    Pass pass{rows, {}, cache, sink, gates};
    if (experts_ != nullptr) {
      const auto above = static_cast<std::size_t>(block.layer()) + 1;
      pass.part = &experts_->fetch(block, above < blocks_.size() ? &blocks_[above] : nullptr);
      pass.tokens = experts_->tokens();
      pass.heads = experts_->heads();
    }
    auto out = block.forward(x_TD, pass);
    if (experts_ != nullptr) experts_->release(block);
    x_TD = out.y_TD;
    if (out.mix_TE.defined()) mix_TE = out.mix_TE;
  }
  return mix(x_TD, mix_TE);
}

void Transformer::override_gates(gates::Override gates) {
  bool has_router = false;
  for (const auto& block : blocks_) {
    for (const auto& router : block.whole().routers) {
      if (router.of_heads) continue;
      gates.check(router.name, router.experts);
      has_router = true;
    }
  }
  if (!has_router && gates.kind != gates::Override::Kind::soft) {
    throw base::UsageError("--gates: the model has no router whose gates could be replaced");
  }
  gates_ = std::move(gates);
}

at::Tensor Transformer::logits(const at::Tensor& x_TD, const at::Tensor& row_X) const {
  const at::NoGradGuard no_grad;
  return at::mm(normed(x_TD.index_select(0, row_X)), base_->head_VD.t());
}

std::int64_t Transformer::lowest_adapted() const {
  for (const auto& block : blocks_) {
    if (!block.whole().empty()) return block.layer();
  }
  return static_cast<std::int64_t>(blocks_.size());
}

std::int64_t Transformer::trainable_parameters() const {
  std::int64_t total = 0;
  for (const auto& block : blocks_) {
    for (const auto& spec : parameter_specs(block.whole(), block.shape())) {
      total += base::count_of(spec.shape);
    }
  }
  return total;
}

}  // namespace dfmoa::model
