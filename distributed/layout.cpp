#include "distributed/layout.h"

#include <algorithm>
#include <map>
#include <set>

#include "distributed/head_parallel.h"
#include "distributed/owned_rows.h"
#include "distributed/weight_gather.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::distributed {

Spread spread_of(const ParallelConfig& config, int processes, bool keeps_graphs) {
  config.validate(keeps_graphs);
  if (processes < 1) {
    throw base::UsageError(base::text("a plan for ", processes, " processes: expected 1 or more"));
  }
  if (config.expert < 1 || processes % config.expert != 0) {
    throw base::UsageError(base::text("configuration parallel.expert = ", config.expert,
                                      ": expected a divisor of the ", processes, " processes"));
  }
  return {processes,       static_cast<int>(config.expert),
          config.chosen(), config.gathers_steps(keeps_graphs),
          keeps_graphs,    config.heads == "shard"};
}

std::vector<BlockLayout> plan_layout(const std::vector<model::BlockAdapters>& blocks,
                                     const model::Architecture& architecture,
                                     const ParallelConfig& config) {
  const model::BlockShape shape{architecture.hidden, architecture.heads, architecture.kv_heads,
                                architecture.head_dim};
  if (config.heads == "shard") require_gated_heads(blocks);
  Ownership ownership(config, static_cast<int>(config.expert));
  std::vector<BlockLayout> all;
  for (const auto& whole : blocks) {
    const auto layer = static_cast<std::int64_t>(all.size());
    all.push_back({whole, shape, {}});
    const bool has_owners = config.chosen() != Transport::replicate || config.heads == "shard";
    if (whole.empty() || !has_owners) continue;
    all.back().owners = ownership.choose(whole, shape, layer);
  }
  return all;
}

std::vector<BlockLayout> layout_of(const model::Transformer& model,
                                   const ExpertTransport& transport) {
  std::vector<BlockLayout> all;
  for (const auto& block : model.blocks()) {
    const auto* owners = transport.owners(block.layer());
    all.push_back({block.whole(), block.shape(), owners != nullptr ? *owners : BlockOwners{}});
  }
  return all;
}

LayerRows layer_rows(const BlockLayout& block, const Spread& spread, int place, base::DType dtype) {
  LayerRows rows;
  const auto whole = model::parameter_specs(block.whole, block.shape);
  for (const auto& spec : whole) rows.whole += base::count_of(spec.shape);
  rows.has_parameters = !whole.empty();
  const auto element_bytes = static_cast<std::int64_t>(base::size_of(dtype));
  if (!spread.is_sharded()) {
    rows.flat = adapters::flat_offsets(whole, element_bytes).back();
    return rows;
  }
  if (block.whole.empty()) return rows;
  const auto banks = held_banks(block.whole, block.owners, place);
  const auto held = model::parameter_specs(banks, block.shape);
  rows.flat = adapters::flat_offsets(held, element_bytes).back();
  const auto runs = rows_by_owner(block.whole, block.shape, block.owners);
  const auto gather = [&](const std::function<bool(const RowRun&)>& takes) {
    return WeightGather(runs, whole, held, place, spread.expert, takes);
  };
  const bool sends_tokens = spread.transport == Transport::move_tokens;
  const auto travelling = gather([&](const RowRun& run) {
    return run.owner != kHeldByAll && !(sends_tokens && run.of_expert);
  });
  rows.travelling = travelling.largest();
  rows.owned = gather([](const RowRun& run) { return run.owner != kHeldByAll; }).largest();
  rows.shared = gather([](const RowRun& run) { return run.owner == kHeldByAll; }).largest();
  const auto lent = model::parameter_specs(
      sends_tokens ? with_held_experts(block.whole, banks) : block.whole, block.shape);
  for (const auto index : travelling.parameters()) rows.lent += base::count_of(lent[index].shape);
  return rows;
}

std::int64_t most_gates(const std::vector<BlockLayout>& blocks, const Spread& spread,
                        adapters::ParameterGroup kind) {
  if (!spread.is_sharded()) return 0;
  std::vector<std::int64_t> gates(static_cast<std::size_t>(spread.expert));
  for (const auto& block : blocks) {
    if (block.whole.empty()) continue;
    std::set<std::string> names;
    for (const auto& spec : model::parameter_specs(block.whole, block.shape)) {
      if (spec.group == kind) names.insert(spec.name);
    }
    for (const auto& run : rows_by_owner(block.whole, block.shape, block.owners)) {
      if (names.contains(run.parameter)) gates.at(static_cast<std::size_t>(run.owner)) += run.count;
    }
  }
  return *std::max_element(gates.begin(), gates.end());
}

int heaviest_place(const std::vector<BlockLayout>& blocks, const Spread& spread) {
  if (!spread.is_sharded()) return 0;
  std::vector<std::int64_t> elements(static_cast<std::size_t>(spread.expert));
  for (const auto& block : blocks) {
    if (block.whole.empty()) continue;
    std::map<std::string, std::int64_t> of_row;
    for (const auto& spec : model::parameter_specs(block.whole, block.shape)) {
      of_row[spec.name] = base::count_of({spec.shape.begin() + 1, spec.shape.end()});
    }
    for (const auto& run : rows_by_owner(block.whole, block.shape, block.owners)) {
      if (run.owner == kHeldByAll) continue;
      elements.at(static_cast<std::size_t>(run.owner)) += run.count * of_row.at(run.parameter);
    }
  }
  return static_cast<int>(std::max_element(elements.begin(), elements.end()) - elements.begin());
}

}  // namespace dfmoa::distributed
