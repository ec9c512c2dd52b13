// What state.h promises about the ranks that a checkpoint holds.
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/train/cut_candidate.h"
#include "src/train/rank_budget.h"
#include "src/train/state.h"

namespace dfmoa::train {
namespace {

/// The ids that the checkpoint holds under `name`: ascending, of those that the configuration
/// makes.
std::vector<std::int64_t> held_by(const checkpoints::Checkpoint& checkpoint,
                                  const std::string& name, std::int64_t first, std::int64_t most,
                                  const char* what) {
  const auto refuse = [&](const std::string& why) {
    throw base::ContentError(
        base::text("checkpoint ", checkpoint.folder().string(), ": ", name, " ", why));
  };
  const auto found = checkpoint.datasets().find(name);
  const bool fits = found != checkpoint.datasets().end() &&
                    found->second.dtype == base::DType::i64 && found->second.shape.size() == 1 &&
                    found->second.shape[0] <= most;
  if (!fits) {
    refuse(
        base::text("is missing or holds more than the ", most, " ", what, " of the configuration"));
  }
  std::vector<std::int64_t> ids(static_cast<std::size_t>(found->second.shape[0]));
  if (!ids.empty()) checkpoint.read(name, ids.data());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool is_next = i == 0 || ids[i] > ids[i - 1];
    if (is_next && ids[i] >= first && ids[i] < first + most) continue;
    refuse(base::text("holds number ", ids[i], ", expected ascending ones from ", first, " to ",
                      first + most - 1));
  }
  return ids;
}

void match_directions(model::Block& block, const checkpoints::Checkpoint& checkpoint) {
  bool shrunk = false;
  KeptDirections keep;
  for (const auto& group : block.whole().groups) {
    auto& sites = keep.emplace_back();
    for (const auto& site : group.sites) {
      auto& kept = sites.emplace_back();
      for (std::int64_t expert = 0; expert < site.experts(); ++expert) {
        const auto rank = site.rank_E[static_cast<std::size_t>(expert)];
        const auto first = expert * site.initial_rank;
        const auto ids = held_by(checkpoint,
                                 base::text("layer/", block.layer(), "/", site.site, "/expert/",
                                            expert, "/direction_id"),
                                 first, rank, "directions");
        for (const auto id : ids) kept.push_back(position_of(id, site.direction_id_N));
        shrunk = shrunk || static_cast<std::int64_t>(ids.size()) < rank;
      }
    }
  }
  if (shrunk) keep_directions(block, keep);
}

void match_dimensions(model::Block& block, const checkpoints::Checkpoint& checkpoint) {
  bool shrunk = false;
  KeptDimensions keep;
  for (const auto& mask : block.whole().attention.masks) {
    const auto ids = held_by(
        checkpoint, base::text("layer/", block.layer(), "/dfa/", mask.name, "/dimension_id"), 0,
        mask.left(), "dimensions");
    auto& kept = keep.emplace_back();
    for (const auto id : ids) kept.push_back(position_of(id, mask.dimension_id_N));
    shrunk = shrunk || static_cast<std::int64_t>(ids.size()) < mask.left();
  }
  if (shrunk) keep_dimensions(block, keep);
}

}  // namespace

void match_ranks(model::Transformer& model, const checkpoints::Checkpoint& checkpoint) {
  for (auto& block : model.blocks()) {
    if (block.whole().empty()) continue;
    match_directions(block, checkpoint);
    match_dimensions(block, checkpoint);
  }
}

}  // namespace dfmoa::train
