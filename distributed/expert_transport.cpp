#include "distributed/expert_transport_parts.h"

#include <algorithm>

#include "src/base/dtype.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/dtype.h"

namespace dfmoa::distributed {

namespace {

using adapters::ParameterSpec;

/// Where a leaf of every travelling spec lies in a flat buffer.
std::vector<at::Tensor> views_of(const at::Tensor& flat, const std::vector<ParameterSpec>& specs,
                                 const std::vector<bool>& travels) {
  std::vector<at::Tensor> views(specs.size());
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (!travels[i]) continue;
    const auto count = base::count_of(specs[i].shape);
    views[i] = flat.narrow(0, offset, count).view(specs[i].shape);
    offset += count;
  }
  return views;
}

std::vector<at::Tensor> values_of(const adapters::ParameterSet& held) {
  std::vector<at::Tensor> values;
  for (const auto& leaf : held.leaves()) values.push_back(leaf.detach());
  return values;
}

}  // namespace

ExpertTransport::ExpertTransport(model::Transformer& model, comm::Communicator& world,
                                 const ParallelConfig& config, bool keeps_graphs)
    : model_(model),
      config_(config),
      mesh_(world, config.expert),
      transport_(config.chosen()),
      gathers_steps_(config.gathers_steps(keeps_graphs)),
      ownership_(config, mesh_.experts().num_processes()) {
  config.validate(keeps_graphs);
  const auto owners_of = [this](std::int64_t layer) -> const BlockOwners& {
    return ownership_.of(layer);
  };
  if (transport_ == Transport::move_tokens) {
    tokens_ = std::make_unique<AllToAllTokens>(mesh_.experts(), owners_of);
  }
  if (config.heads == "shard") {
    heads_ = std::make_unique<ShardedHeads>(mesh_.experts(), owners_of);
  }
  model_.use_experts(this);
  rearrange();
}

ExpertTransport::~ExpertTransport() {
  if (model_.experts() == this) model_.use_experts(nullptr);
}

void ExpertTransport::adapt(const model::AdapterPlan& plan, std::uint64_t seed) {
  const auto place = mesh_.experts().process();
  model::HeldBanks held;
  if (is_sharded()) {
    ownership_.clear();
    held = [&](const auto& whole, const auto& shape, std::int64_t layer) {
      return held_banks(whole, ownership_.choose(whole, shape, layer), place);
    };
  }
  model_.adapt(plan, seed, held);
  if (heads_) {
    std::vector<model::BlockAdapters> blocks;
    for (const auto& block : model_.blocks()) blocks.push_back(block.whole());
    require_gated_heads(blocks);
  }
  rearrange();
}

void ExpertTransport::choose_owners() {
  if (!is_sharded()) return;
  ownership_.clear();
  const auto options = model_.base().embedding_VD.options();
  for (auto& block : model_.blocks()) {
    if (block.whole().empty()) continue;
    auto whole = block.whole();
    const auto& owners = ownership_.choose(whole, block.shape(), block.layer());
    auto held = held_banks(whole, owners, mesh_.experts().process());
    adapters::ParameterSet parameters(model::parameter_specs(held, block.shape()), options);
    block.replace(std::move(whole), {std::move(held), std::move(parameters)});
  }
  rearrange();
}

const BlockOwners* ExpertTransport::owners(std::int64_t layer) const {
  return is_sharded() || heads_ ? ownership_.find(layer) : nullptr;
}

std::string ExpertTransport::order_of_sums() const {
  auto words = base::text("transport ", name_of(transport_));
  if (transport_ == Transport::move_weights) {
    words += gathers_steps_ ? ", gathered for the step" : ", gathered for a block";
  }
  if (heads_) words += ", heads at their owners";
  if (is_sharded() || heads_) words += ", owners " + ownership_.hash().substr(0, 8);
  return words;
}

ExpertTransport::Layer ExpertTransport::arrange(const model::Block& block) const {
  Layer layer;
  const auto place = mesh_.experts().process();
  const auto places = mesh_.experts().num_processes();
  layer.runs = rows_by_owner(block.whole(), block.shape(), ownership_.of(block.layer()));
  const auto whole = model::parameter_specs(block.whole(), block.shape());
  const auto& held = block.parameters().specs();
  const auto gather = [&](const std::function<bool(const RowRun&)>& takes) {
    return WeightGather(layer.runs, whole, held, place, places, takes);
  };
  const bool sends_tokens = tokens_ != nullptr;
  layer.travelling = gather([&](const RowRun& run) {
    return run.owner != kHeldByAll && !(sends_tokens && run.of_expert);
  });
  layer.owned = gather([](const RowRun& run) { return run.owner != kHeldByAll; });
  layer.shared = gather([](const RowRun& run) { return run.owner == kHeldByAll; });
  layer.banks = sends_tokens ? with_held_experts(block.whole(), block.adapters()) : block.whole();
  layer.specs = model::parameter_specs(layer.banks, block.shape());
  layer.travels.assign(layer.specs.size(), false);
  for (const auto index : layer.travelling.parameters()) layer.travels[index] = true;
  for (std::size_t i = 0; i < layer.specs.size(); ++i) {
    const auto found = std::find_if(held.begin(), held.end(), [&](const auto& spec) {
      return spec.name == layer.specs[i].name;
    });
    layer.held.push_back(found == held.end() ? -1 : found - held.begin());
    if (layer.travels[i]) layer.elements += base::count_of(layer.specs[i].shape);
  }
  return layer;
}

void ExpertTransport::rearrange() {
  layers_.clear();
  layers_.resize(model_.blocks().size());
  lent_.clear();
  gather_.reset();
  scatter_.reset();
  if (!is_sharded()) {
    if (heads_) choose_head_owners();
    return;
  }
  for (const auto& block : model_.blocks()) {
    if (block.whole().empty()) continue;
    layers_[static_cast<std::size_t>(block.layer())] = arrange(block);
  }
}

void ExpertTransport::choose_head_owners() {
  ownership_.clear();
  for (const auto& block : model_.blocks()) {
    if (block.whole().empty()) continue;
    ownership_.choose(block.whole(), block.shape(), block.layer());
  }
}

at::Tensor ExpertTransport::buffer(std::int64_t elements) const {
  return at::zeros({elements}, model_.base().embedding_VD.options());
}

at::Tensor ExpertTransport::message_buffer(std::int64_t elements) const {
  return at::zeros({elements}, model_.base().embedding_VD.options().device(at::kCPU));
}

ExpertTransport::Lent& ExpertTransport::lent_for(const model::Block& block) {
  Lent* free = nullptr;
  for (auto& lent : lent_) {
    if (lent->layer == block.layer()) return *lent;
    if (lent->layer < 0) free = lent.get();
  }
  if (free == nullptr) free = lent_.emplace_back(std::make_unique<Lent>()).get();
  make_room(*free, layers_[static_cast<std::size_t>(block.layer())]);
  free->layer = block.layer();
  free->is_started = free->is_complete = false;
  return *free;
}

void ExpertTransport::make_room(Lent& lent, const Layer& layer) const {
  if (lent.values.defined()) return;
  auto elements = layer.elements;
  for (const auto& other : layers_) {
    if (!gathers_steps_) elements = std::max(elements, other.elements);  // else it serves one layer
  }
  lent.values = buffer(elements);
  if (!gathers_steps_) return;
  lent.flat_gradient = buffer(elements);
  lent.gradients = views_of(lent.flat_gradient, layer.specs, layer.travels);
}

std::int64_t ExpertTransport::largest_message() const {
  std::int64_t largest = 0;
  for (const auto& layer : layers_) largest = std::max(largest, layer.travelling.largest());
  return largest;
}

void ExpertTransport::start_gather(Lent& lent, const model::Block& block) {
  const at::NoGradGuard no_grad;
  const auto& layer = layers_[static_cast<std::size_t>(block.layer())];
  const auto count = layer.travelling.largest();
  if (!gather_) gather_ = std::make_unique<Gather>();
  if (gather_->layer >= 0) {
    throw base::ShapeError(base::text("gathering the experts of layer ", block.layer(),
                                      " while those of layer ", gather_->layer,
                                      " are under way and nobody fetched them"));
  }
  if (!gather_->own.defined()) {
    gather_->own = message_buffer(largest_message());
    gather_->messages = message_buffer(largest_message() * mesh_.experts().num_processes());
  }
  gather_->layer = block.layer();
  layer.travelling.pack_own(values_of(block.parameters()), gather_->own);
  gather_->pending = mesh_.experts().start_all_gather(
      gather_->own.const_data_ptr(), count, gather_->messages.mutable_data_ptr(),
      ops::from_torch(gather_->own.scalar_type()),
      base::text("C2/layer/", block.layer(), "/gather"));
  lent.is_started = true;
}

void ExpertTransport::finish_gather(Lent& lent, const model::Block& block) {
  const at::NoGradGuard no_grad;
  gather_->pending.wait();
  gather_->layer = -1;
  const auto& layer = layers_[static_cast<std::size_t>(block.layer())];
  auto leaves = views_of(lent.values, layer.specs, layer.travels);
  layer.travelling.unpack_all(gather_->messages, leaves);
  // A may have rows of both kinds: those of a shared A stay here.
  layer.shared.copy_held(values_of(block.parameters()), leaves);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    leaves[i] = layer.travels[i]
                    ? leaves[i].detach().requires_grad_()
                    : block.parameters().leaves().at(static_cast<std::size_t>(layer.held[i]));
  }
  lent.part = {layer.banks, adapters::ParameterSet::borrowed(layer.specs, std::move(leaves))};
  lent.is_complete = true;
}

const model::TrainedPart& ExpertTransport::fetch(const model::Block& block,
                                                 const model::Block* next) {
  if (!is_sharded() || block.whole().empty()) return block.held();
  const auto travels = [&](const model::Block& one) {
    return !layers_[static_cast<std::size_t>(one.layer())].travelling.empty();
  };
  if (!travels(block)) return block.held();
  auto& lent = lent_for(block);
  if (!lent.is_complete) {
    if (!lent.is_started) start_gather(lent, block);
    finish_gather(lent, block);
  }
  if (next != nullptr && !gathers_steps_ && !next->whole().empty() && travels(*next)) {
    auto& ahead = lent_for(*next);
    if (!ahead.is_started) start_gather(ahead, *next);
  }
  return lent.part;
}

void ExpertTransport::release(const model::Block& block) {
  if (gathers_steps_) return;
  for (auto& lent : lent_) {
    if (lent->layer == block.layer()) lent->layer = -1;
  }
}

model::TokenExchange* ExpertTransport::tokens() {
  return tokens_.get();
}

model::HeadExchange* ExpertTransport::heads() {
  return heads_.get();
}

}  // namespace dfmoa::distributed
