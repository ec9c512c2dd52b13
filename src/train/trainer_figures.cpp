// What a run tells of its steps: figures for metrics.jsonl and TensorBoard, one line for people.
#include "src/base/text.h"
#include "src/train/expert_ranks.h"
#include "src/train/schedule.h"
#include "src/train/trainer.h"

namespace dfmoa::train {
namespace {

/// Of one token: a frozen weight is used forward and for the gradient of its input, an adapter's
/// also for its own. Every token counts as if it bore loss; attention's products are left out.
double flops_per_token(const model::Transformer& model) {
  double frozen = static_cast<double>(model.base().head_VD.numel());
  for (const auto& layer : model.base().layers) {
    for (const auto& linear : layer.linears) {
      if (linear == nullptr) continue;  // the family has none there
      frozen += static_cast<double>(linear->in_features() * linear->out_features());
    }
  }
  return 4.0 * frozen + 6.0 * static_cast<double>(model.trainable_parameters());
}

}  // namespace

void Trainer::add_router_figures(const StepResult& result, Figures& all) const {
  double cv = 0;
  double routers = 0;
  for (std::size_t layer = 0; layer < result.statistics.size(); ++layer) {
    const auto& block = model_.blocks()[layer].whole();
    const auto vectors = model::statistics_by_router(block.routers, result.statistics[layer]);
    for (std::size_t r = 0; r < vectors.size(); ++r) {
      const auto load = gates::load_figures(vectors[r], block.routers[r].layout());
      const auto name = base::text(layer, "/", block.routers[r].name);
      all["entropy_weight/" + name] = entropy_[layer][r].lambda();
      if (block.routers[r].config.confidence == "dual") {
        all["confidence_weight/" + name] = entropy_[layer][r].confidence_lambda();
      }
      if (block.routers[r].of_heads) {
        all["head_gate/" + name + "/entropy"] = load.entropy;
        continue;
      }
      all["router/" + name + "/load_cv"] = load.load_cv;
      all["router/" + name + "/dead_fraction"] = load.dead_fraction;
      all["router/" + name + "/entropy"] = load.entropy;
      cv += load.load_cv;
      routers += 1;
    }
  }
  if (routers > 0) all["router/mean_load_cv"] = cv / routers;
}

Figures Trainer::figures(const StepResult& result, const Vote& verdict, const Cost& cost) const {
  const double ce = verdict.ce_sum / result.n_loss;
  const double tokens_per_s = static_cast<double>(cost.tokens) / cost.seconds;
  Figures all{
      {"train/ce", ce},
      {"train/loss", ce + result.balance + budgets_[0].penalty(verdict.rank[0], step_ - 1) +
                         budgets_[1].penalty(verdict.rank[1], step_ - 1)},
      {"train/grad_norm", verdict.gradient_norm},
      {"train/learning_rate", config_.train.learning_rate * rate_share(config_.train, step_ - 1)},
      {"throughput/tokens_per_s", tokens_per_s},
      {"time/data_pct", 100 * cost.loading / cost.seconds},
      {"time/comm_pct", 100 * cost.communicating.seconds / cost.seconds},
      {"time/comm_s", cost.communicating.seconds},
      {"comm/bytes", static_cast<double>(cost.communicating.bytes)},
      {"comm/sent_bytes", static_cast<double>(cost.communicating.sent_bytes)},
      {"memory/peak_bytes", static_cast<double>(peak_memory_bytes())},
      {"rank/model/active", static_cast<double>(verdict.rank[0].active)},
      {"rank/model/expected", verdict.rank[0].expected},
      {"rank/model/total", static_cast<double>(verdict.rank[0].total)}};
  if (budgets_[1].is_on()) {
    all["dfa/model/active"] = static_cast<double>(verdict.rank[1].active);
    all["dfa/model/expected"] = verdict.rank[1].expected;
    all["dfa/model/total"] = static_cast<double>(verdict.rank[1].total);
  }
  if (config_.log.peak_tflops > 0) {
    all["throughput/mfu"] = tokens_per_s * flops_per_token(model_) /
                            (1e12 * config_.log.peak_tflops * comm_.num_processes());
  }
  add_router_figures(result, all);
  return all;
}

void Trainer::write_site_figures() {
  const auto experts = expert_ranks(model_, &transport_);
  if (!metrics_) return;
  Figures all;
  for (const auto& expert : experts) {
    const auto site = "rank/" + expert.site.substr(std::string("layer/").size());
    all[site + "/active"] += static_cast<double>(expert.active);
    all[site + "/spectral"] += expert.spectral;
  }
  metrics_->write(step_, all);
}

void Trainer::tell(const Figures& figures, double seconds_per_step) {
  const auto number = [&](const std::string& key, const char* form) {
    char buffer[32];
    std::snprintf(buffer, sizeof(buffer), form, figures.contains(key) ? figures.at(key) : 0.0);
    return std::string(buffer);
  };
  const auto dimensions = budgets_[1].is_on()
                              ? base::text("  dims ", number("dfa/model/active", "%.0f"), "/",
                                           number("dfa/model/total", "%.0f"))
                              : std::string();
  const auto left = static_cast<std::int64_t>(seconds_per_step *
                                              static_cast<double>(config_.train.steps - step_));
  log_.progress(base::text(
      "step ", step_, "/", config_.train.steps, "  ce ", number("train/ce", "%.4f"), "  rank ",
      number("rank/model/active", "%.0f"), "/", number("rank/model/total", "%.0f"), dimensions,
      "  load_cv ", number("router/mean_load_cv", "%.2f"), "  ",
      number("throughput/tokens_per_s", "%.0f"), " tok/s  eta ", left / 60, ":",
      left % 60 < 10 ? "0" : "", left % 60));
}

}  // namespace dfmoa::train
