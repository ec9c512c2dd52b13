#include "src/train/step_cost.h"

#include <algorithm>

#include "src/ops/dtype.h"
#include "src/train/open_model.h"
#include "src/train/rank_budget.h"

namespace dfmoa::train {

distributed::StepForm step_form(const RunConfig& config, int processes, std::int64_t step) {
  const RankBudget directions(config.plan, config.train.steps, RankOwner::directions);
  const RankBudget dimensions(config.plan, config.train.steps, RankOwner::dimensions);
  distributed::StepForm form;
  form.spread = distributed::spread_of(config.parallel, processes, config.train.memory == "keep");
  form.micro_batches = config.train.micro_batches;
  form.lag_one = config.train.statistics == "lag_one";
  form.dtype = ops::from_torch(compute_type(config.train));
  form.phase = directions.phase(step);
  form.dimension_phase = dimensions.phase(step);
  form.compares_directions = directions.compares_gates(step);
  form.compares_dimensions = dimensions.compares_gates(step);
  const auto gated = dimensions.is_on() ? 2 : 1;
  form.vote_figures = 2 + gated * static_cast<std::int64_t>(kRankFigures);
  return form;
}

namespace {

/// Whether directions, or dimensions, with a rank gate are gone.
bool was_cut(const std::vector<distributed::BlockLayout>& blocks, RankOwner owner) {
  for (const auto& block : blocks) {
    if (owner == RankOwner::dimensions) {
      for (const auto& mask : block.whole.attention.masks) {
        if (mask.left() < mask.total()) return true;
      }
      continue;
    }
    for (const auto& group : block.whole.groups) {
      for (const auto& site : group.sites) {
        const bool is_whole = site.directions() == site.experts() * site.initial_rank;
        if (!site.rank_gate.empty() && !is_whole) return true;
      }
    }
  }
  return false;
}

/// Of most of the steps from `step` on to the next cut; directions and dimensions may each have
/// their own.
distributed::StepForm form_from(const RunConfig& config,
                                const std::vector<distributed::BlockLayout>& blocks, int processes,
                                std::int64_t step) {
  const auto at = [&](RankOwner owner) {
    const RankBudget budget(config.plan, config.train.steps, owner);
    // Nothing is penalised or noisy in the last step and after it.
    const auto settled = std::max(step, config.train.steps);
    const auto from = was_cut(blocks, owner) ? settled : std::max(step, budget.start());
    return step_form(config, processes, from);
  };
  auto form = at(RankOwner::directions);
  const auto of_dimensions = at(RankOwner::dimensions);
  form.dimension_phase = of_dimensions.dimension_phase;
  form.compares_dimensions = of_dimensions.compares_dimensions;
  return form;
}

}  // namespace

std::int64_t StepCost::bytes() const {
  std::int64_t total = 0;
  for (const auto& one : traffic) total += one.bytes;
  return total;
}

std::int64_t StepCost::sent_bytes() const {
  std::int64_t total = 0;
  for (const auto& one : traffic) total += one.sent_bytes;
  return total;
}

StepCost cost_of(const RunConfig& config, const model::BaseModel& base,
                 const std::vector<distributed::BlockLayout>& blocks, int processes, bool on_gpu,
                 std::int64_t step) {
  const auto form = form_from(config, blocks, processes, step);
  const auto workload = distributed::workload_of(base, blocks, config.train.tokens, on_gpu);
  const auto tokens = [&](int place, std::int64_t slot) {
    const auto m = slot * processes + place;
    return m < form.micro_batches ? workload.tokens : 0;
  };
  const auto routing = distributed::expected_routing(tokens, 0, form.spread.expert);
  const auto rows = [&](std::int64_t slot) {
    distributed::PeerRows peers;
    for (int place = 0; place < form.spread.expert; ++place) {
      peers.tokens_P.push_back(tokens(place, slot));
    }
    peers.documents = peers.tokens_P[0] > 0 ? 1 : 0;
    return peers;
  };
  StepCost cost;
  cost.spread = form.spread;
  cost.memory = distributed::memory_of(blocks, form, workload,
                                       distributed::heaviest_place(blocks, form.spread));
  cost.traffic =
      distributed::traffic_of(distributed::collectives_of_step(blocks, form, 0, routing, rows));
  const auto flops_P = distributed::flops_of_step(blocks, form, workload);
  cost.flops = *std::max_element(flops_P.begin(), flops_P.end());
  const bool sends_rows =
      form.spread.transport == distributed::Transport::move_tokens || form.spread.shards_heads;
  cost.is_estimate = sends_rows && form.spread.expert > 1;
  return cost;
}

}  // namespace dfmoa::train
