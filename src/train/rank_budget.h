// The rank of a run over time: noise, a budget with its penalty, the cut (docs/math.md).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "distributed/expert_transport.h"
#include "src/base/state_tree.h"
#include "src/model/transformer.h"

namespace dfmoa::train {

/// What gates of a [rank.NAME] are of: directions of adapters, or dimensions of attention heads.
enum class RankOwner { directions, dimensions };

/// One vector of trained gates in a model, as far as this process holds it.
struct GateVector {
  /// What `literal` averages: a linear, a head.
  struct Segment {
    std::int64_t held = 0;   ///< gates here
    std::int64_t whole = 0;  ///< gates in all processes
  };
  std::size_t layer = 0;
  std::string parameter;
  std::string kind;
  std::vector<Segment> segments;
};
[[nodiscard]] std::vector<GateVector> gate_vectors(const model::Transformer& model,
                                                   RankOwner owner);

/// What a cut did, counted in directions of adapters with rank gates, or in gated dimensions.
struct CutReport {
  std::int64_t before = 0;
  std::int64_t after = 0;
};

/// Directions, or dimensions, that exist, and those whose gate is open in evaluation form.
struct RankCount {
  std::int64_t total = 0;
  std::int64_t fixed = 0;  ///< of total: of adapters without a rank gate, outside of any budget
  std::int64_t active = 0;
  double expected = 0;   ///< E[L0]; equals active for gates without noise
  double penalised = 0;  ///< `literal`: mean |m| of a segment, summed; `proximal`: sum |z|
};
constexpr std::size_t kRankFigures = 3;
/// (kRankFigures) fp64 where the gates are, not yet read: active, expected, penalised, of what this
/// process holds.
[[nodiscard]] at::Tensor rank_figures(const model::Transformer& model,
                                      RankOwner owner = RankOwner::directions);
/// The count that belongs to figures which the host has read.
[[nodiscard]] RankCount rank_count(const model::Transformer& model,
                                   std::span<const double, kRankFigures> figures,
                                   RankOwner owner = RankOwner::directions);
/// Both, with one host read, in a process that holds the whole model.
[[nodiscard]] RankCount count_rank(const model::Transformer& model,
                                   RankOwner owner = RankOwner::directions);
/// Directions or dimensions that exist; and directions of adapters without a rank gate.
[[nodiscard]] std::int64_t total_rank(const model::Transformer& model,
                                      RankOwner owner = RankOwner::directions);
[[nodiscard]] std::int64_t fixed_rank(const model::Transformer& model,
                                      RankOwner owner = RankOwner::directions);

class RankBudget {
 public:
  /// Throws UsageError where adapters name more than one [rank.NAME], for a cut before the start
  /// and for a budget that leaves nothing.
  RankBudget(const model::AdapterPlan& plan, std::int64_t steps,
             RankOwner owner = RankOwner::directions);

  /// "directions" or "dimensions".
  [[nodiscard]] std::string unit() const {
    return owner_ == RankOwner::directions ? "directions" : "dimensions";
  }
  /// Whether anything is gated.
  [[nodiscard]] bool is_on() const { return config_.has_value(); }

  [[nodiscard]] model::RankPhase phase(std::int64_t step) const;
  /// First step in which gates are free.
  [[nodiscard]] std::int64_t start() const { return start_; }
  /// Whether `shrink_gates` looks at all gates of the model, and so where they are sharded has
  /// processes tell each other theirs.
  [[nodiscard]] bool compares_gates(std::int64_t step) const;
  /// Learning rate of the gates, constant; 0 without gates, and while free ones are held at 1.
  [[nodiscard]] double learning_rate(std::int64_t step) const;

  /// Value of the penalty at gates whose count is `rank`; and its gradient at the present gates,
  /// added once by every holder after the reduction. `expected` is E[L0] of the world where gates
  /// are sharded; without it there is no host read.
  [[nodiscard]] double penalty(const RankCount& rank, std::int64_t step) const;
  void add_gradient(model::Transformer& model, std::int64_t step,
                    std::optional<double> expected = std::nullopt) const;
  /// After the optimiser's step: what kind proximal takes from every gate; with a budget no more
  /// than closes the gates that it has no room for.
  void shrink_gates(model::Transformer& model, std::int64_t step,
                    distributed::ExpertTransport& transport) const;
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
  CutReport cut(model::Transformer& model, distributed::ExpertTransport& transport);

  void list(base::StateTree& tree);
  /// Takes over whether the run has had its cut: from `saved`, or from its `step` where a
  /// checkpoint of an older format does not say.
  void resume(const base::StateTree& saved, std::int64_t step);

 private:
  [[nodiscard]] bool penalises(std::int64_t step) const;
  /// Its weight follows a budget, instead of being `strength`.
  [[nodiscard]] bool has_dual() const;
  [[nodiscard]] std::string state_name(const std::string& name) const;

  RankOwner owner_;
  std::optional<adapters::RankGateConfig> config_;
  std::int64_t start_ = 0;
  std::int64_t cut_ = 0;
  double lambda_ = 0;
  bool was_cut_ = false;
};

/// z_N of a group in evaluation form; undefined where every gate is 1.
[[nodiscard]] at::Tensor evaluation_gates(const model::Block& block,
                                          const adapters::GroupBank& group);

/// Kept positions in the whole banks, ascending: per group and site of a block's adapters, or per
/// mask of its heads.
using KeptDirections = std::vector<std::vector<std::vector<std::int64_t>>>;
using KeptDimensions = std::vector<std::vector<std::int64_t>>;

/// Parameter name -> rows that stay; parameters without an entry stay whole.
using RowsOfParameter = std::map<std::string, at::Tensor>;
[[nodiscard]] adapters::ParameterSet restricted(const adapters::ParameterSet& whole,
                                                const RowsOfParameter& rows_of);

/// The adapters of a block restricted to the directions that `keep` names (positions inside the
/// site), with values and moments; and the same of its attention gates.
void keep_directions(model::Block& block, const KeptDirections& keep);
void keep_dimensions(model::Block& block, const KeptDimensions& keep);

/// Keeps the best `budget` open directions, or dimensions, of the model (0: all open ones) and
/// removes the rest, everywhere: owners tell each other what they hold.
[[nodiscard]] CutReport cut_directions(model::Transformer& model, std::int64_t budget,
                                       distributed::ExpertTransport& transport);
[[nodiscard]] CutReport cut_dimensions(model::Transformer& model, std::int64_t budget,
                                       distributed::ExpertTransport& transport);

}  // namespace dfmoa::train
