// The rank of a run over time: noise, a budget with its penalty, the cut (docs/math.md).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "src/base/state_tree.h"
#include "src/model/transformer.h"

namespace dfmoa::train {

/// What a cut did, counted in directions of adapters with rank gates.
struct CutReport {
  std::int64_t before = 0;
  std::int64_t after = 0;
};

/// Directions that exist, and those whose gate is open in evaluation form.
struct RankCount {
  std::int64_t total = 0;
  std::int64_t fixed = 0;  ///< of total: of adapters without a rank gate, outside of any budget
  std::int64_t active = 0;
  double expected = 0;    ///< E[L0]; equals active for gates without noise
  double mean_logit = 0;  ///< mean |m| of a site, summed over sites: what `literal` penalises
};
constexpr std::size_t kRankFigures = 3;
/// (kRankFigures) fp64 where the gates are, not yet read: active, expected, mean_logit.
[[nodiscard]] at::Tensor rank_figures(const model::Transformer& model);
/// The count that belongs to figures which the host has read.
[[nodiscard]] RankCount rank_count(const model::Transformer& model,
                                   std::span<const double, kRankFigures> figures);
/// Both, with one host read.
[[nodiscard]] RankCount count_rank(const model::Transformer& model);
/// Directions that exist; and those of adapters without a rank gate.
[[nodiscard]] std::int64_t total_rank(const model::Transformer& model);
[[nodiscard]] std::int64_t fixed_rank(const model::Transformer& model);

class RankBudget {
 public:
  /// Throws UsageError where adapters name more than one [rank.NAME], for a cut before the start
  /// and for a budget that leaves nothing.
  RankBudget(const model::AdapterPlan& plan, std::int64_t steps);

  [[nodiscard]] model::RankPhase phase(std::int64_t step) const;
  /// Learning rate of the gates, constant; 0 without gates.
  [[nodiscard]] double learning_rate() const;

  /// Value of the penalty at gates whose count is `rank`; and its gradient at the present gates,
  /// added once by every replica after the reduction, without a host read.
  [[nodiscard]] double penalty(const RankCount& rank, std::int64_t step) const;
  void add_gradient(model::Transformer& model, std::int64_t step) const;
  /// With the optimiser's step, which started from gates of count `rank`: the penalty's weight
  /// follows the excess over the budget.
  void dual_step(const RankCount& rank, std::int64_t step);

  /// Directions that the cut leaves at most; 0: no limit, or no rank gate.
  [[nodiscard]] double budget() const { return config_ ? config_->budget : 0.0; }
  /// Once in a run, before step `cut` of the schedule or the first one after it.
  [[nodiscard]] bool cuts_at(std::int64_t step) const;
  /// Removes directions of adapters with rank gates for good, with their moments; the gates that
  /// stay lose the momentum of the penalty that has ended. Evaluation-form logits do not change
  /// where only directions with z = 0 go.
  CutReport cut(model::Transformer& model);

  void list(base::StateTree& tree);
  /// Takes over whether the run has had its cut: from `saved`, or from its `step` where a
  /// checkpoint of an older format does not say.
  void resume(const base::StateTree& saved, std::int64_t step);

 private:
  [[nodiscard]] bool penalises(std::int64_t step) const;

  std::optional<adapters::RankGateConfig> config_;
  std::int64_t start_ = 0;
  std::int64_t cut_ = 0;
  double lambda_ = 0;
  bool was_cut_ = false;
};

/// z_N of a group in evaluation form; undefined where every gate is 1.
[[nodiscard]] at::Tensor evaluation_gates(const model::Block& block,
                                          const adapters::GroupBank& group);

/// The adapters of a block restricted to the directions that `keep` names per group and site
/// (positions inside the site, ascending), with values and moments.
void keep_directions(model::Block& block,
                     const std::vector<std::vector<std::vector<std::int64_t>>>& keep);

}  // namespace dfmoa::train
