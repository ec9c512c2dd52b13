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
  const auto gated = dimensions.is_on() ? 2 : 1;
  form.vote_figures = 2 + gated * static_cast<std::int64_t>(kRankFigures);
  return form;
}

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
                 const std::vector<distributed::BlockLayout>& blocks, int processes, bool on_gpu) {
  auto form = step_form(config, processes, 0);
  form.phase = form.dimension_phase = model::RankPhase::noisy;  // as most steps are
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
