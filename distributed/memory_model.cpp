#include "distributed/memory_model.h"

#include <algorithm>
#include <cmath>

namespace dfmoa::distributed {
namespace {

constexpr std::int64_t kHeadChunk = 256;             // rows of logits at a time
constexpr std::int64_t kProgramBytes = 150'000'000;  // resident code of torch, MPI and HDF5
constexpr std::int64_t kGpuProgramBytes = 1'500'000'000;

/// What gathered experts and gradients on their way take, elements.
struct Buffers {
  std::int64_t lent = 0;
  std::int64_t messages = 0;
  std::int64_t sums = 0;
};

/// The most that so many sums take that are started one after the other.
std::int64_t fullest_window(const std::vector<std::int64_t>& sums) {
  std::int64_t fullest = 0;
  std::int64_t under_way = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    under_way += sums[i];
    if (i >= kSumsInFlight) under_way -= sums[i - kSumsInFlight];
    fullest = std::max(fullest, under_way);
  }
  return fullest;
}

Buffers buffers_of(const std::vector<LayerRows>& layers, const Spread& spread, bool on_gpu) {
  Buffers all;
  LayerRows most;
  std::int64_t travelling_layers = 0;
  std::vector<std::int64_t> sums;
  for (const auto& layer : layers) {
    most.travelling = std::max(most.travelling, layer.travelling);
    most.lent = std::max(most.lent, layer.lent);
    if (layer.travelling > 0) travelling_layers += 1;
    // A sum lies in its message and once more, in parts, where it is received. The buffer of all
    // gradients is its own message, unless it lies on a device.
    if (!spread.is_sharded()) {
      if (spread.processes > 1) sums.push_back((on_gpu ? 2 : 1) * layer.flat);
      continue;
    }
    const bool sums_owned = spread.copies() > 1 && layer.owned > 0;
    const bool sums_shared = spread.processes > 1 && layer.shared > 0;
    if (sums_owned) sums.push_back(2 * layer.owned);
    if (sums_shared) sums.push_back(2 * layer.shared);
  }
  all.sums = fullest_window(sums);
  if (travelling_layers == 0) return all;
  const auto places = std::int64_t{spread.expert};
  // One block's weights: the own part, and all owners' messages. One block's gradients: the same,
  // and as much received.
  all.messages += most.travelling * (2 + 3 * places);
  if (spread.gathers_steps) {
    for (const auto& layer : layers) all.lent += 2 * layer.lent;
  } else {
    all.lent += std::min<std::int64_t>(travelling_layers, 2) * most.lent;
  }
  return all;
}

/// Tokens of all processes that come to `place`, kept there as what its experts read; per token.
std::int64_t arrived_per_token(const BlockLayout& block, const Spread& spread, int place) {
  if (spread.transport != Transport::move_tokens) return 0;
  double numbers = 0;
  for (int group = 0; group < 4; ++group) {
    const auto& bank = block.whole.groups[static_cast<std::size_t>(group)];
    if (bank.sites.empty()) continue;
    const auto width = bank.in_features + gate_columns(block.whole, group);
    numbers += share_of_tokens(block, group, place) * spread.expert * static_cast<double>(width);
  }
  return std::llround(numbers);
}

/// Numbers per token that a block keeps between forward and backward.
std::int64_t saved_per_token(const BlockLayout& block, const Workload& workload,
                             bool shards_heads) {
  const auto& shape = block.shape;
  const auto queries = shape.heads * shape.head_dim;
  const auto keys = shape.kv_heads * shape.head_dim;
  // Input, two norms and the stream between them; q and what attention gives; k and v; gate, up and
  // their product.
  auto numbers = 4 * workload.hidden + 2 * queries + 2 * keys + 3 * workload.intermediate;
  if (!block.whole.attention.empty()) numbers += 2 * queries;
  // Slices before they leave, after they came, and what attention gives on its way.
  if (shards_heads && block.whole.attention.gates_pretrained()) {
    numbers += 2 * (queries + 2 * keys) + 2 * queries;
  }
  for (int group = 0; group < 4; ++group) {
    numbers += block.whole.groups[static_cast<std::size_t>(group)].a_rows() +
               gate_columns(block.whole, group);
  }
  return numbers;
}

std::int64_t activations(const std::vector<BlockLayout>& blocks, const StepForm& form,
                         const Workload& workload, int place) {
  std::int64_t kept = 0;
  std::int64_t most = 0;
  std::int64_t inputs = 0;
  bool is_above = false;
  for (const auto& block : blocks) {
    is_above = is_above || !block.whole.empty();
    if (!is_above) continue;
    const auto saved = saved_per_token(block, workload, form.spread.shards_heads) +
                       arrived_per_token(block, form.spread, place);
    kept += saved;
    most = std::max(most, saved);
    inputs += workload.hidden;
  }
  // Gradients inside the block that runs backward.
  const auto work = 3 * workload.intermediate + 3 * workload.hidden;
  return workload.tokens * (work + (form.spread.keeps_graphs ? kept : inputs + most));
}

}  // namespace

Workload workload_of(const model::BaseModel& base, const std::vector<BlockLayout>& blocks,
                     std::int64_t tokens, bool on_gpu) {
  const auto& a = base.architecture;
  Workload workload{base.bytes, 0, 0, a.vocabulary, a.hidden, a.intermediate, tokens, on_gpu};
  const auto size = static_cast<std::int64_t>(base.embedding_VD.element_size());
  for (const auto& layer : base.layers) {
    for (const auto& linear : layer.linears) {
      if (linear == nullptr) continue;  // the family has none there
      const auto weights = linear->in_features() * linear->out_features();
      workload.base_weights += weights;
      const bool is_quantised = linear->bytes() < weights * size;
      if (is_quantised) {
        workload.dequantised_bytes = std::max(workload.dequantised_bytes, weights * size);
      }
    }
  }
  std::int64_t copies = 1;
  for (const auto& block : blocks) copies = std::max(copies, block.whole.copies);
  workload.tokens *= copies;
  return workload;
}

std::vector<MemoryPart> memory_of(const std::vector<BlockLayout>& blocks, const StepForm& form,
                                  const Workload& workload, int place) {
  const auto size = static_cast<std::int64_t>(base::size_of(form.dtype));
  std::vector<LayerRows> layers;
  std::int64_t flat = 0;
  std::int64_t largest = 0;
  for (const auto& block : blocks) {
    layers.push_back(layer_rows(block, form.spread, place, form.dtype));
    flat += layers.back().flat;
    largest = std::max(largest, layers.back().whole);
  }
  const auto buffers = buffers_of(layers, form.spread, workload.on_gpu);
  const auto rows = std::min(workload.tokens, kHeadChunk);
  const auto stream = workload.tokens * workload.hidden;
  std::vector<MemoryPart> parts{
      {"base", workload.base_bytes},
      {"adapters", 4 * flat * size},
      {"lent", buffers.lent * size},
      {"messages", buffers.messages * size},
      {"sums", buffers.sums * size},
      {"activations", (activations(blocks, form, workload, place) + largest) * size},
      {"scratch", workload.dequantised_bytes},
      {"head", (rows * workload.vocabulary + 3 * stream) * size},
      {"program", workload.on_gpu ? kGpuProgramBytes : kProgramBytes}};
  parts.push_back({"slack", total_of(parts) / 10});
  return parts;
}

std::int64_t expected_of(const std::vector<MemoryPart>& parts) {
  std::int64_t expected = 0;
  for (const auto& [part, bytes] : parts) expected += part == "slack" ? 0 : bytes;
  return expected;
}

std::int64_t total_of(const std::vector<MemoryPart>& parts) {
  std::int64_t total = 0;
  for (const auto& part : parts) total += part.bytes;
  return total;
}

double seconds_of(const Traffic& traffic, const Spread& spread, const Machine& machine) {
  const auto reach = traffic.group == Group::experts ? spread.expert : spread.processes;
  const bool fits = reach <= machine.node_size &&
                    (traffic.group != Group::experts || machine.node_size % spread.expert == 0);
  const auto& link = fits ? machine.inside_node : machine.between_nodes;
  return static_cast<double>(traffic.messages) * link.latency_s +
         static_cast<double>(traffic.sent_bytes) / link.bytes_per_s;
}

double seconds_of_step(const std::vector<Traffic>& traffic, double flops, const Spread& spread,
                       const Machine& machine) {
  double seconds = flops / machine.flops_per_s;
  for (const auto& one : traffic) seconds += seconds_of(one, spread, machine);
  return seconds;
}

}  // namespace dfmoa::distributed
