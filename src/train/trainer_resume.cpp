// What a run saves, how it begins from it, and what it refuses to begin from.
#include "checkpoints/writer.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/device.h"
#include "src/train/ini.h"
#include "src/train/state.h"
#include "src/train/trainer.h"

namespace dfmoa::train {
namespace {

/// All that decides in which order a run sums, and so its last bits.
std::string order_of_sums(const RunConfig& config, const model::Transformer& model,
                          const distributed::ExpertTransport& transport) {
  const auto device = model.base().embedding_VD.device().type();
  const auto& mesh = transport.mesh();
  const auto sharing = mesh.experts().num_processes() > 1
                           ? base::text(" (", mesh.experts().num_processes(), " share the experts)")
                           : std::string();
  return base::text("processes ", mesh.world().num_processes(), sharing, ", threads ",
                    at::get_num_threads(), ", ", c10::DeviceTypeName(device, /*lower_case=*/true),
                    ", ", transport.order_of_sums(), ", memory ", config.train.memory,
                    ", instructions ", ops::cpu_instructions());
}

}  // namespace

HostParameters Trainer::list(base::StateTree& tree) {
  auto host = list_model(model_, entropy_, /*moments=*/true, tree, &transport_);
  for (auto& budget : budgets_) budget.list(tree);
  std::size_t at = 0;
  for (const auto& block : last_statistics_) {
    std::copy(block.begin(), block.end(), lagged_.begin() + static_cast<std::ptrdiff_t>(at));
    at += block.size();
  }
  tree.add({"statistics/last",
            base::DType::f64,
            {static_cast<std::int64_t>(lagged_.size())},
            lagged_.empty() ? nullptr : lagged_.data(),
            0});
  data::save(loader_.cursor(), tree);
  tree.set("train/step", step_);
  tree.set("train/tokens_seen", tokens_seen_);
  tree.set("train/ce", ce_);
  tree.set("train/best_step", best_step_);
  tree.set("train/best_loss", best_loss_);
  tree.set("base/hash", model_.base().hash);
  tree.set("run/order_of_sums", order_of_sums(config_, model_, transport_));
  tree.set("run/config", config_.ini());
  return host;
}

void Trainer::save(const std::filesystem::path& folder) {
  transport_.check_replicas("checkpoint/replicas");  // one of them is saved for all
  base::StateTree tree;
  const auto host = list(tree);
  base::with_context(base::text("saving step ", step_), [&] {
    checkpoints::save_checkpoint(folder, tree, step_, comm_,
                                 config_.checkpoint.retention(best_step_));
  });
  saved_step_ = step_;
  write_site_figures();
}

std::optional<checkpoints::Checkpoint> Trainer::choose_checkpoint(const RunOptions& options) const {
  const auto folder = options.folder / "checkpoints";
  const auto steps =
      std::filesystem::exists(folder) ? checkpoints::steps_in(folder) : std::vector<std::int64_t>{};
  const auto refuse_used = [&](const std::string& why) {
    throw base::UsageError(base::text(options.folder.string(), " already holds a run (",
                                      checkpoints::folder_name(steps.back()), ")", why,
                                      "--run names another folder"));
  };
  if (options.resume == "none") {
    if (!steps.empty()) refuse_used(": --resume auto goes on with it, ");
    return std::nullopt;
  }
  if (options.resume == "auto") {
    if (steps.empty()) return std::nullopt;
    return checkpoints::find_newest(folder, log_);
  }
  auto named = checkpoints::Checkpoint::open(options.resume);
  if (steps.empty()) return named;
  // The newest checkpoint of a folder is the one that auto goes on from: two lines of steps in one
  // folder would be mixed up.
  if (!std::filesystem::equivalent(named.folder().parent_path(), folder)) {
    refuse_used(", and " + options.resume + " is of another: ");
  }
  if (steps.back() > named.step()) {
    refuse_used(base::text(", later than step ", named.step(), " that is to be resumed: "));
  }
  return named;
}

void Trainer::begin(const RunOptions& options) {
  const auto checkpoint = choose_checkpoint(options);
  if (checkpoint) {
    base::with_context("resuming from " + checkpoint->folder().string(),
                       [&] { restore(*checkpoint, options); });
    log_.info(base::text("resumed at step ", step_, ", ", tokens_seen_, " tokens seen"));
  } else if (options.resume == "auto") {
    log_.info("no checkpoint in " + options.folder.string() + ": a fresh run");
  }
  for (const auto owner : {RankOwner::directions, RankOwner::dimensions}) {
    const auto& budget = budgets_[owner == RankOwner::directions ? 0 : 1];
    const auto gated = total_rank(model_, owner) - fixed_rank(model_, owner);
    if (comm_.process() > 0 || step_ > 0) continue;
    if (budget.budget() <= static_cast<double>(gated)) continue;
    log_.warn(base::text("the rank budget ", budget.budget(), " is above the ", gated, " ",
                         budget.unit(), " of the model: it limits nothing"));
  }
}

void Trainer::restore(const checkpoints::Checkpoint& checkpoint, const RunOptions& options) {
  base::StateTree saved;
  for (const auto& [name, value] : checkpoint.values()) saved.set(name, value);
  if (saved.text("base/hash") != model_.base().hash) {
    throw base::ContentError(base::text("the base model differs: its hash is ", model_.base().hash,
                                        ", the checkpoint was trained on ",
                                        saved.text("base/hash")));
  }
  RunConfig old;
  read_ini_text(saved.text("run/config"), checkpoint.folder().string(), old);
  check_configuration(old, options.allow_change);
  match_ranks(model_, checkpoint);
  transport_.choose_owners();
  base::StateTree tree;
  const auto host = list(tree);
  checkpoint.load(tree);
  take_parameters(model_, host);
  step_ = saved.integer("train/step");
  tokens_seen_ = saved.integer("train/tokens_seen");
  if (saved.values().contains("train/ce")) ce_ = saved.real("train/ce");
  for (auto& budget : budgets_) budget.resume(saved, step_);
  restore_best(saved, old, options.folder / "checkpoints");
  loader_.seek(data::load_cursor(saved));
  skipped_lines_ = loader_.cursor().skipped;
  last_statistics_.clear();
  auto from = lagged_.begin();
  for (const auto& block : model_.blocks()) {
    const auto end = from + static_cast<std::ptrdiff_t>(block.statistics_size());
    last_statistics_.emplace_back(from, end);
    from = end;
  }
  if (step_ == 0) last_statistics_.clear();  // no step yet: lag_one begins with uniform gates
  saved_step_ = options.resume == "auto" ? step_ : -1;
  compare_sums(saved.text("run/order_of_sums"));
}

void Trainer::compare_sums(const std::string& before) const {
  const auto now = order_of_sums(config_, model_, transport_);
  if (before == now) return;
  if (config_.checkpoint.require_bitwise) {
    throw base::ContentError(base::text("it was saved with ", before, ", now there are ", now,
                                        ": checkpoint.require_bitwise = true refuses that"));
  }
  log_.info(base::text("checkpoint of ", before, ", now ", now,
                       ": global batch and order unchanged, sums equal to 1e-6, not bitwise"));
}

void Trainer::restore_best(const base::StateTree& saved, const RunConfig& old,
                           const std::filesystem::path& folder) {
  best_step_ = saved.integer("train/best_step");
  best_loss_ = saved.real("train/best_loss");
  const bool is_kept =
      best_step_ >= 0 && std::filesystem::exists(folder / checkpoints::folder_name(best_step_));
  if (!is_kept || old.data.eval != config_.data.eval) best_step_ = -1;
}

void Trainer::check_configuration(const RunConfig& old,
                                  const std::vector<std::string>& allow_change) {
  std::map<std::string, std::pair<std::string, std::string>> values;  // key -> before, now
  for (const auto& [key, value] : old.resolved()) values[key] = {value, "(absent)"};
  for (const auto& [key, value] : config_.resolved()) {
    values.try_emplace(key, "(absent)", "").first->second.second = value;
  }
  std::vector<std::string> refused;
  for (const auto& [key, pair] : values) {
    const auto& [before, now] = pair;
    if (before == now) continue;
    const auto change = base::text(key, ": ", before, " -> ", now);
    const bool allowed =
        RunConfig::is_free(key) ||
        std::find(allow_change.begin(), allow_change.end(), key) != allow_change.end();
    if (allowed) {
      log_.info("changed since the checkpoint: " + change);
    } else {
      refused.push_back(change);
    }
  }
  if (!refused.empty()) {
    throw base::ContentError("the configuration differs from the checkpoint's (" +
                             base::join(refused, "; ") + "): --allow-change KEY accepts a key");
  }
}

}  // namespace dfmoa::train
