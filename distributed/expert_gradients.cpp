// What expert_transport.h promises about the gradients of a step.
#include "distributed/expert_transport_parts.h"
#include "src/base/text.h"
#include "src/ops/dtype.h"

namespace dfmoa::distributed {
namespace {

std::vector<at::Tensor> gradients_of(const adapters::ParameterSet& held) {
  std::vector<at::Tensor> gradients;
  for (std::size_t i = 0; i < held.specs().size(); ++i) gradients.push_back(held.gradient(i));
  return gradients;
}

/// In pieces: the fp64 copy of a large gradient never exists whole.
at::Tensor squared(const at::Tensor& gradient) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  std::vector<at::Tensor> parts;
  for (const auto& piece : gradient.reshape({-1}).split(kPiece)) {
    parts.push_back(at::linalg_vector_norm(piece, 2, std::nullopt, false, at::kDouble).square());
  }
  return at::stack(parts).sum();
}

}  // namespace

void ExpertTransport::begin_step() {
  for (auto& block : model_.blocks()) block.parameters().zero_gradient();
  for (auto& lent : lent_) {
    lent->is_started = lent->is_complete = false;
    if (lent->flat_gradient.defined()) lent->flat_gradient.zero_();
  }
}

void ExpertTransport::add(model::Block& block, const std::vector<at::Tensor>& gradients,
                          bool last) {
  auto& held = block.parameters();
  if (!is_sharded()) {
    held.accumulate(gradients);
    if (last) start_sums(block);
    return;
  }
  const auto& layer = layers_[static_cast<std::size_t>(block.layer())];
  std::vector<at::Tensor> travelling(gradients.size());
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) continue;
    if (layer.travels[i]) {
      travelling[i] = gradients[i];
    } else {
      held.gradient(static_cast<std::size_t>(layer.held[i])).add_(gradients[i]);
    }
  }
  layer.shared.add_held(travelling, gradients_of(held));
  if (layer.travelling.empty()) {
    finish_scatter();
    if (last) start_sums(block);
    return;
  }
  if (gathers_steps_) {
    auto& lent = lent_for(block);
    for (std::size_t i = 0; i < travelling.size(); ++i) {
      if (travelling[i].defined()) lent.gradients[i].add_(travelling[i]);
    }
    if (last) start_scatter(block, lent.gradients, last);
    return;
  }
  start_scatter(block, travelling, last);
}

void ExpertTransport::start_scatter(model::Block& block, const std::vector<at::Tensor>& gradients,
                                    bool last) {
  finish_scatter();  // its memory serves one block after the other
  const auto& layer = layers_[static_cast<std::size_t>(block.layer())];
  const auto count = layer.travelling.largest();
  const auto places = mesh_.experts().num_processes();
  if (!scatter_) scatter_ = std::make_unique<Scatter>();
  if (!scatter_->own.defined() || scatter_->own.numel() < count) {
    scatter_->own = message_buffer(largest_message());
    scatter_->messages = message_buffer(largest_message() * places);
  }
  const auto messages = scatter_->messages.narrow(0, 0, count * places);
  messages.zero_();  // pads, and leaves without a gradient
  layer.travelling.pack_all(gradients, messages);
  scatter_->block = &block;
  scatter_->last = last;
  scatter_->pending = mesh_.experts().start_reduce_scatter(
      messages.const_data_ptr(), scatter_->own.mutable_data_ptr(), count,
      ops::from_torch(messages.scalar_type()), comm::Op::sum,
      base::text("C2/layer/", block.layer(), "/scatter"));
}

void ExpertTransport::finish_scatter() {
  if (!scatter_ || scatter_->block == nullptr) return;
  auto& block = *scatter_->block;
  scatter_->pending.wait();
  scatter_->block = nullptr;
  const auto& layer = layers_[static_cast<std::size_t>(block.layer())];
  layer.travelling.add_own(scatter_->own, gradients_of(block.parameters()));
  if (scatter_->last) start_sums(block);
}

void ExpertTransport::start_sums(model::Block& block) {
  if (block.parameters().empty() && block.whole().empty()) return;
  if (is_sharded()) {
    const auto& layer = layers_[static_cast<std::size_t>(block.layer())];
    start_sum(block, layer.owned, mesh_.copies(), "/owned");
    start_sum(block, layer.shared, mesh_.world(), "/shared");
    return;
  }
  // A sum of one is there already: a lone process reads nothing back from its device.
  const auto& flat = block.parameters().flat_gradient();
  finish_sums(kSumsInFlight - 1);
  auto& sum = sums_.emplace_back();
  sum.block = &block;
  sum.message = mesh_.world().num_processes() > 1 ? flat.to(at::kCPU) : flat;
  sum.pending = mesh_.world().start_all_reduce(sum.message.mutable_data_ptr(), sum.message.numel(),
                                               ops::from_torch(flat.scalar_type()), comm::Op::sum,
                                               base::text("C2/layer/", block.layer()));
}

void ExpertTransport::start_sum(model::Block& block, const WeightGather& rows,
                                comm::Communicator& comm, const char* what) {
  if (rows.empty() || comm.num_processes() == 1) return;
  finish_sums(kSumsInFlight - 1);
  auto& sum = sums_.emplace_back();
  sum.block = &block;
  sum.rows = &rows;
  sum.message = message_buffer(rows.largest());
  rows.pack_own(gradients_of(block.parameters()), sum.message);
  sum.pending = comm.start_all_reduce(sum.message.mutable_data_ptr(), sum.message.numel(),
                                      ops::from_torch(sum.message.scalar_type()), comm::Op::sum,
                                      base::text("C2/layer/", block.layer(), what));
}

void ExpertTransport::finish_sums(std::size_t left) {
  for (; sums_.size() > left; sums_.erase(sums_.begin())) {
    auto& sum = sums_.front();
    sum.pending.wait();
    if (sum.rows != nullptr) {
      sum.rows->unpack_own(sum.message, gradients_of(sum.block->parameters()));
    } else {
      sum.block->parameters().flat_gradient().copy_(sum.message);  // nothing where it is the same
    }
  }
}

void ExpertTransport::finish_step() {
  finish_scatter();
  finish_sums(0);
  // The next update makes what was gathered old.
  for (auto& lent : lent_) lent->is_started = lent->is_complete = false;
}

at::Tensor ExpertTransport::squared_norm_share() const {
  const auto options =
      at::TensorOptions().dtype(at::kDouble).device(model_.base().embedding_VD.device());
  std::vector<at::Tensor> parts{at::zeros({}, options)};
  const bool counts_shared = mesh_.world().process() == 0;
  for (const auto& block : model_.blocks()) {
    const auto& parameters = block.parameters();
    if (parameters.empty()) continue;
    if (!is_sharded()) {
      if (counts_shared) parts.push_back(squared(parameters.flat_gradient()));
      continue;
    }
    const auto& layer = layers_[static_cast<std::size_t>(block.layer())];
    const auto gradients = gradients_of(parameters);
    const auto add = [&](const WeightGather& rows) {
      for (const auto& own : rows.own_rows(gradients)) parts.push_back(squared(own));
    };
    if (mesh_.speaks()) add(layer.owned);
    if (counts_shared) add(layer.shared);
  }
  return at::stack(parts).sum();
}

}  // namespace dfmoa::distributed
