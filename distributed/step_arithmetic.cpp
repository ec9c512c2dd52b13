// What memory_model.h promises about the arithmetic of a step.
#include <array>
#include <map>
#include <numeric>
#include <string>

#include "distributed/memory_model.h"
#include "distributed/owned_rows.h"

namespace dfmoa::distributed {
namespace {

/// Numbers of trained tensors that a token is multiplied with.
struct AdapterWork {
  double own = 0;                 ///< a token of the process itself
  std::vector<double> arrived_P;  ///< a token of any process of the copy, on average, by place
};

/// Position in kGroups of the linears that a parameter is added to; -1: beside linears.
int group_of(const std::string& parameter) {
  for (std::size_t group = 0; group < model::kGroups.size(); ++group) {
    if (parameter.starts_with(std::string(model::kGroups[group]) + "/")) {
      return static_cast<int>(group);
    }
  }
  return -1;
}

/// Tokens go to every place that owns one of their experts and meet all that lies there of the
/// group, rows of A that experts share included.
void add_sent(const BlockLayout& block, const Spread& spread, AdapterWork& work) {
  std::map<std::string, std::int64_t> of_row;
  for (const auto& spec : model::parameter_specs(block.whole, block.shape)) {
    of_row[spec.name] = base::count_of({spec.shape.begin() + 1, spec.shape.end()});
  }
  const auto places = static_cast<std::size_t>(spread.expert);
  std::array<std::vector<double>, model::kGroups.size()> numbers_P;
  numbers_P.fill(std::vector<double>(places));
  for (const auto& run : rows_by_owner(block.whole, block.shape, block.owners)) {
    const auto numbers = static_cast<double>(run.count * of_row.at(run.parameter));
    const auto group = group_of(run.parameter);
    if (group < 0) {
      work.own += numbers;
      continue;
    }
    auto& of_group_P = numbers_P[static_cast<std::size_t>(group)];
    for (std::size_t place = 0; place < places; ++place) {
      const bool is_here = run.owner == kHeldByAll || run.owner == static_cast<int>(place);
      if (is_here) of_group_P[place] += numbers;
    }
  }
  for (std::size_t group = 0; group < numbers_P.size(); ++group) {
    if (block.whole.groups[group].sites.empty()) continue;
    for (std::size_t place = 0; place < places; ++place) {
      work.arrived_P[place] +=
          numbers_P[group][place] *
          share_of_tokens(block, static_cast<int>(group), static_cast<int>(place));
    }
  }
}

AdapterWork adapter_work(const std::vector<BlockLayout>& blocks, const Spread& spread) {
  AdapterWork work;
  work.arrived_P.resize(static_cast<std::size_t>(spread.expert));
  for (const auto& block : blocks) {
    if (block.whole.empty()) continue;
    if (spread.transport == Transport::move_tokens) {
      add_sent(block, spread, work);
      continue;
    }
    for (const auto& spec : model::parameter_specs(block.whole, block.shape)) {
      work.own += static_cast<double>(base::count_of(spec.shape));
    }
  }
  return work;
}

/// Micro-batches of a process, without empty slots.
std::int64_t filled_slots(const StepForm& form, int process) {
  const auto processes = std::int64_t{form.spread.processes};
  return (form.micro_batches - process + processes - 1) / processes;
}

}  // namespace

std::vector<double> flops_of_step(const std::vector<BlockLayout>& blocks, const StepForm& form,
                                  const Workload& workload) {
  const auto tokens = static_cast<double>(workload.tokens);
  const auto layers = static_cast<double>(blocks.size());
  const auto adapters = adapter_work(blocks, form.spread);
  double adapted = 0;  // blocks that backward passes through
  for (const auto& block : blocks) {
    if (adapted > 0 || !block.whole.empty()) adapted += 1;
  }
  const auto share = adapted / layers;
  const auto& shape = blocks.front().shape;
  // Causal: half of the products of queries with keys, and of weights with values.
  const auto attention = 2 * tokens * static_cast<double>(shape.heads * shape.head_dim) * layers;
  const auto weights = static_cast<double>(workload.base_weights);
  const auto head = 4.0 * static_cast<double>(workload.vocabulary * workload.hidden);
  const auto forwards =
      (form.counts_first() ? 2.0 : 1.0) + (form.spread.keeps_graphs ? 0.0 : share);
  const auto of_number = 2 * forwards + 4;
  const auto own = forwards * (2 * weights + attention) + share * (2 * weights + 2.5 * attention) +
                   head + of_number * adapters.own;
  std::vector<double> slots_P;
  for (int place = 0; place < form.spread.expert; ++place) {
    slots_P.push_back(static_cast<double>(filled_slots(form, place)));
  }
  const auto slots_of_copy = std::accumulate(slots_P.begin(), slots_P.end(), 0.0);
  std::vector<double> flops;
  for (std::size_t place = 0; place < slots_P.size(); ++place) {
    const auto arrived = of_number * adapters.arrived_P[place];
    flops.push_back(tokens * (slots_P[place] * own + slots_of_copy * arrived));
  }
  return flops;
}

}  // namespace dfmoa::distributed
