// A run: rows in, steps, votes, metrics, checkpoints, resume.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/reader.h"
#include "distributed/expert_transport.h"
#include "src/base/log.h"
#include "src/data/loader.h"
#include "src/train/config.h"
#include "src/train/metrics.h"
#include "src/train/optimizer.h"
#include "src/train/rank_budget.h"
#include "src/train/state.h"
#include "src/train/step.h"

namespace dfmoa::train {

/// How a run begins and ends.
struct RunOptions {
  std::filesystem::path folder;
  std::string resume = "none";  ///< none, auto, or a checkpoint folder
  std::vector<std::string> allow_change;
  std::int64_t stop_after = -1;  ///< stop with a checkpoint after this step of the schedule
  const std::atomic<bool>* stop = nullptr;  ///< set by a signal: save and stop
};

/// What the steps of one start cost this process, all together.
struct StepsCost {
  std::int64_t steps = 0;
  std::int64_t bytes = 0;       ///< handed to communicators
  std::int64_t sent_bytes = 0;  ///< of them, to other processes
  double seconds = 0;           ///< in collectives, the caller waiting
  std::int64_t peak_bytes = 0;  ///< resident at the fullest moment of any

  void add(const StepsCost& other) {
    peak_bytes = std::max(peak_bytes, other.peak_bytes);
    steps += other.steps;
    bytes += other.bytes;
    sent_bytes += other.sent_bytes;
    seconds += other.seconds;
  }
};

struct RunReport {
  std::int64_t steps = 0;
  std::int64_t tokens_seen = 0;
  double ce = std::nan("");            ///< nats per token, of the last step; NaN before the first
  double tokens_per_s = std::nan("");  ///< of the last step of this start; NaN if it made none
  std::string parameters_hash;
  std::filesystem::path checkpoint;
  bool stopped = false;  ///< on request, before the last step
  StepsCost cost;
};

class Trainer {
 public:
  /// `model` is already adapted, by `transport`, as `config` says. Everything is held by reference.
  Trainer(const RunConfig& config, model::Transformer& model, data::Loader& loader,
          distributed::ExpertTransport& transport, base::Logger& log);

  /// Goes to where the run stands; changes nothing on disk. Call it once, before `run`.
  /// Throws UsageError for a folder that already holds a run, unless it is resumed; ContentError
  /// where a checkpoint, base or configuration does not fit.
  void begin(const RunOptions& options);

  /// Steps that the run has made.
  [[nodiscard]] std::int64_t step() const { return step_; }

  /// Trains to the end of the schedule or of `options`. The last state is always saved.
  /// Throws MachineError for a loss that is not finite, and when it is asked to stop before its
  /// first step: a batch system that starts such runs again would do so for ever. Throws what the
  /// data stream throws.
  [[nodiscard]] RunReport run(const RunOptions& options);

 private:
  struct Vote {
    double ce_sum = 0;  ///< of the world
    double gradient_norm = 0;
    /// Of the gates that this step's gradients belong to: directions, then head dimensions.
    std::array<RankCount, 2> rank;
    bool finite = true;
    bool stop = false;
  };
  /// Of one step, in this process.
  struct Cost {
    std::int64_t tokens = 0;  ///< of the world
    double seconds = 0;
    double loading = 0;       ///< seconds of it spent on data
    StepsCost communicating;  ///< of this step alone
  };
  void restore(const checkpoints::Checkpoint& checkpoint, const RunOptions& options);
  /// A resume that sums in another order than the checkpoint's run: said, or refused.
  void compare_sums(const std::string& before) const;
  /// The checkpoint that `options` ask for; nothing for a fresh run.
  [[nodiscard]] std::optional<checkpoints::Checkpoint> choose_checkpoint(
      const RunOptions& options) const;
  void check_configuration(const RunConfig& old, const std::vector<std::string>& allow_change);
  /// The best checkpoint so far, if it still lies in this folder and was judged by the same files.
  void restore_best(const base::StateTree& saved, const RunConfig& old,
                    const std::filesystem::path& folder);
  [[nodiscard]] HostParameters list(base::StateTree& tree);
  void save(const std::filesystem::path& folder);
  void one_step(const RunOptions& options, RunReport& report);
  /// E[L0] of what this process speaks for, where only sums over processes know it.
  [[nodiscard]] ExpectedRank expected_share() const;
  void update(const StepResult& result, const Vote& verdict);
  [[nodiscard]] Vote vote(const at::Tensor& ce_sum_of_process, bool stop);
  void evaluate(bool is_saved);
  void cut_rank(RankBudget& budget, std::span<const data::PackedRow> rows);
  [[nodiscard]] Figures figures(const StepResult& result, const Vote& verdict,
                                const Cost& cost) const;
  void add_router_figures(const StepResult& result, Figures& all) const;
  /// Open and used directions of every adapted linear: too dear for every step, written at saves.
  void write_site_figures();
  void tell(const Figures& figures, double seconds_per_step);

  const RunConfig& config_;
  model::Transformer& model_;
  data::Loader& loader_;
  distributed::ExpertTransport& transport_;
  comm::Communicator& comm_;  ///< the world
  base::Logger& log_;
  std::vector<BlockEntropy> entropy_;
  std::array<RankBudget, 2> budgets_;  ///< of directions, then of head dimensions
  Optimizer optimizer_;
  std::unique_ptr<Metrics> metrics_;
  std::vector<std::vector<double>> last_statistics_;
  std::vector<double> lagged_;  ///< last_statistics_ as a checkpoint holds it
  std::int64_t step_ = 0;
  std::int64_t tokens_seen_ = 0;
  double ce_ = std::nan("");  ///< of the last step
  std::int64_t saved_step_ = -1;
  std::int64_t best_step_ = -1;  ///< of the lowest held-out loss so far
  double best_loss_ = 0;
  std::int64_t skipped_lines_ = 0;  ///< that were told of
};

}  // namespace dfmoa::train
