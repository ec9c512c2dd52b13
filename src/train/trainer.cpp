#include "src/train/trainer.h"

#include <chrono>

#include "checkpoints/writer.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/train/held_out.h"
#include "src/train/ini.h"
#include "src/train/schedule.h"
#include "src/train/state.h"

namespace dfmoa::train {
namespace {

/// What the recorder has counted so far.
StepsCost counted(const comm::Recorder& recorder) {
  return {0, recorder.bytes(), recorder.sent_bytes(), recorder.seconds(), 0};
}

StepsCost since(const StepsCost& before, const comm::Recorder& recorder) {
  return {1, recorder.bytes() - before.bytes, recorder.sent_bytes() - before.sent_bytes,
          recorder.seconds() - before.seconds, 0};
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Trainer::Trainer(const RunConfig& config, model::Transformer& model, data::Loader& loader,
                 distributed::ExpertTransport& transport, base::Logger& log)
    : config_(config),
      model_(model),
      loader_(loader),
      transport_(transport),
      comm_(transport.mesh().world()),
      log_(log),
      entropy_(make_entropy(model)),
      budgets_{RankBudget(config.plan, config.train.steps, RankOwner::directions),
               RankBudget(config.plan, config.train.steps, RankOwner::dimensions)},
      optimizer_(config.train) {
  for (const auto& block : model.blocks()) {
    lagged_.resize(lagged_.size() + static_cast<std::size_t>(block.statistics_size()), 0.0);
  }
}

RunReport Trainer::run(const RunOptions& options) {
  if (comm_.process() == 0) {
    metrics_ = std::make_unique<Metrics>(options.folder, config_.log.tensorboard);
  }
  const auto checkpoints = options.folder / "checkpoints";
  const auto last = options.stop_after >= 0 ? std::min(options.stop_after, config_.train.steps)
                                            : config_.train.steps;
  const bool asked = options.stop != nullptr && options.stop->load();
  if (step_ < last && !comm_.agree(!asked, "start/stop")) {
    throw base::MachineError(
        base::text("asked to stop at step ", step_,
                   ", before the first step of this start: there is nothing new to save"));
  }
  RunReport report;
  report.ce = ce_;
  while (step_ < last && !report.stopped) {
    base::with_context(base::text("step ", step_ + 1), [&] { one_step(options, report); });
    const auto every = config_.checkpoint.every;
    const bool is_saved = every > 0 && step_ % every == 0;
    const auto evaluate_every = config_.train.evaluate_every;
    if (evaluate_every > 0 && step_ % evaluate_every == 0) evaluate(is_saved);
    if (is_saved) {
      save(checkpoints);
      if (step_ < last) {  // the last save is told with the run's result
        log_.info(base::text("step ", step_, ": saved ", checkpoints::folder_name(step_)));
      }
    }
  }
  if (saved_step_ != step_) save(checkpoints);
  report.steps = step_;
  report.tokens_seen = tokens_seen_;
  report.parameters_hash = parameters_hash(model_, entropy_, transport_);
  report.checkpoint = checkpoints / checkpoints::folder_name(step_);
  return report;
}

void Trainer::one_step(const RunOptions& options, RunReport& report) {
  const auto begin = std::chrono::steady_clock::now();
  restart_peak();
  const auto communicated = counted(comm_.recorder());
  const auto rows = loader_.next_step();
  const double loading = seconds_since(begin);
  if (loader_.cursor().skipped > skipped_lines_) {
    skipped_lines_ = loader_.cursor().skipped;
    log_.info(base::text(skipped_lines_,
                         " broken lines passed over so far; the last: ", loader_.last_skipped()));
  }
  for (auto& budget : budgets_) {
    if (budget.cuts_at(step_)) cut_rank(budget, rows);
  }
  Step step(model_, entropy_, transport_,
            {config_.train.memory == "keep", config_.train.statistics == "lag_one"});
  const model::StepKey key{static_cast<std::uint64_t>(config_.train.seed), step_,
                           budgets_[0].phase(step_), budgets_[1].phase(step_)};
  auto result = step.run(rows, key, last_statistics_, expected_share());
  for (std::size_t b = 0; b < budgets_.size(); ++b) {
    const auto expected =
        transport_.is_sharded() ? std::optional(result.expected[b]) : std::nullopt;
    budgets_[b].add_gradient(model_, step_, expected);
  }
  const auto verdict = vote(result.ce_sum, options.stop != nullptr && options.stop->load());
  if (!verdict.finite) {
    throw base::MachineError(base::text("the loss or a gradient is not finite (gradient norm ",
                                        verdict.gradient_norm,
                                        "); the last checkpoint is untouched: a lower "
                                        "train.learning_rate or train.clip may help"));
  }
  update(result, verdict);
  last_statistics_ = result.statistics;
  std::int64_t tokens = 0;
  for (const auto& row : rows) tokens += row.tokens();
  tokens_seen_ += tokens;
  step_ += 1;
  const double seconds = seconds_since(begin);
  report.ce = ce_ = verdict.ce_sum / result.n_loss;
  report.tokens_per_s = static_cast<double>(tokens) / seconds;
  report.stopped = verdict.stop;
  auto cost = since(communicated, comm_.recorder());
  cost.peak_bytes = peak_since_restart();
  report.cost.add(cost);
  if (metrics_ && step_ % config_.log.every == 0) {
    const auto all = figures(result, verdict, {tokens, seconds, loading, cost});
    metrics_->write(step_, all);
    tell(all, seconds);
  }
}

void Trainer::update(const StepResult& result, const Vote& verdict) {
  const double norm = verdict.gradient_norm;
  if (config_.train.clip > 0 && norm > config_.train.clip) {
    scale_gradients(model_.blocks(), config_.train.clip / norm);
  }
  const double share = rate_share(config_.train, step_);
  const double rate = config_.train.learning_rate * share;
  optimizer_.step(model_.blocks(),
                  {rate, share, budgets_[0].learning_rate(step_), budgets_[1].learning_rate(step_)},
                  step_ + 1);
  for (const auto& budget : budgets_) budget.shrink_gates(model_, step_, transport_);
  for (std::size_t layer = 0; layer < entropy_.size(); ++layer) {
    const auto vectors = model::statistics_by_router(model_.blocks()[layer].whole().routers,
                                                     result.statistics[layer]);
    for (std::size_t r = 0; r < vectors.size(); ++r) {
      entropy_[layer][r].step(vectors[r], rate, config_.train.beta1, config_.train.beta2);
    }
  }
  for (std::size_t b = 0; b < budgets_.size(); ++b) budgets_[b].dual_step(verdict.rank[b], step_);
}

ExpectedRank Trainer::expected_share() const {
  ExpectedRank expected{};
  if (!transport_.is_sharded() || !transport_.speaks()) return expected;
  for (const auto owner : {RankOwner::directions, RankOwner::dimensions}) {
    const auto b = owner == RankOwner::directions ? 0U : 1U;
    if (budgets_[b].is_on()) expected[b] = rank_figures(model_, owner)[1].item<double>();
  }
  return expected;
}

Trainer::Vote Trainer::vote(const at::Tensor& ce_sum_of_process, bool stop) {
  // All that the host must know of forward, backward and gates, in one read.
  const auto own = at::stack({ce_sum_of_process, transport_.squared_norm_share()});
  std::vector<at::Tensor> parts{own, rank_figures(model_, RankOwner::directions)};
  const bool gates_dimensions = budgets_[1].is_on();
  if (gates_dimensions) parts.push_back(rank_figures(model_, RankOwner::dimensions));
  const auto read = at::cat(parts).to(at::kCPU);
  const auto count = static_cast<std::size_t>(read.numel());
  std::vector<double> sums(read.const_data_ptr<double>(), read.const_data_ptr<double>() + count);
  if (!transport_.speaks()) std::fill(sums.begin() + 2, sums.end(), 0.0);  // others count the gates
  const bool finite = std::isfinite(sums[0]) && std::isfinite(sums[1]);
  comm_.all_reduce(sums.data(), static_cast<std::int64_t>(count), base::DType::f64, comm::Op::sum,
                   "C3");
  const auto hash = comm_.recorder().hash();
  std::array<std::int64_t, 4> flags{finite ? 0 : 1, stop ? 1 : 0, hash, -hash};
  comm_.all_reduce(flags.data(), 4, base::DType::i64, comm::Op::max, "C3");
  if (flags[2] != -flags[3]) {
    throw base::MachineError("the processes issued different collectives in this step");
  }
  const std::span<const double> values(sums);
  std::array<RankCount, 2> rank{
      rank_count(model_, values.subspan<2, kRankFigures>(), RankOwner::directions), RankCount{}};
  if (gates_dimensions) {
    rank[1] = rank_count(model_, values.last<kRankFigures>(), RankOwner::dimensions);
  }
  return {sums[0], std::sqrt(sums[1]), rank, flags[0] == 0, flags[1] == 1};
}

void Trainer::cut_rank(RankBudget& budget, std::span<const data::PackedRow> rows) {
  const auto ce_before = cross_entropy(model_, rows, comm_, "cut");
  const auto report = budget.cut(model_, transport_);
  const auto ce_after = cross_entropy(model_, rows, comm_, "cut");
  auto sentence = base::text("step ", step_ + 1, " begins with the rank cut: ", report.before, " ",
                             budget.unit(), " before, ", report.after, " after");
  if (ce_before && ce_after) {
    sentence += base::text("; ce of its rows ", *ce_before, " before, ", *ce_after, " after");
    if (metrics_) {
      metrics_->write(step_ + 1, {{"rank/cut/ce_before", *ce_before},
                                  {"rank/cut/ce_after", *ce_after},
                                  {"rank/cut/" + budget.unit(),
                                   static_cast<double>(report.before - report.after)}});
    }
  }
  log_.info(sentence);
  if (static_cast<double>(report.after) < 0.5 * budget.budget() &&
      static_cast<double>(report.before) >= budget.budget()) {
    log_.warn(base::text("the cut leaves ", report.after, " ", budget.unit(),
                         ", far below the budget of ", budget.budget(),
                         ": the gates closed together, none was worth more than another; a lower "
                         "learning rate of the rank gates or a longer run may tell them apart"));
  }
}

void Trainer::evaluate(bool is_saved) {
  const auto found =
      evaluate_held_out(model_, loader_.reader(), config_.data.eval, config_.train.tokens, comm_);
  if (is_saved && (best_step_ < 0 || found.ce < best_loss_)) {
    best_step_ = step_;
    best_loss_ = found.ce;
  }
  Figures figures{{"eval/loss", found.ce}, {"eval/perplexity", std::exp(found.ce)}};
  for (const auto& [task, ce] : found.ce_of_task) figures["eval/loss/" + task] = ce;
  if (metrics_) metrics_->write(step_, figures);
  log_.info(base::text("step ", step_, ": held-out ce ", found.ce));
}

}  // namespace dfmoa::train
