#include "distributed/config.h"

#include <algorithm>
#include <charconv>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::distributed {

std::string name_of(Transport transport) {
  switch (transport) {
    case Transport::replicate:
      return "replicate";
    case Transport::move_weights:
      return "move_weights";
    case Transport::move_tokens:
      return "move_tokens";
  }
  throw base::ShapeError("no such transport");
}

void ParallelConfig::fields(base::FieldList& list) {
  list.add("expert", expert,
           "processes that share the experts of one copy of the model; divides their number")
      .range(1, 1e6);
  list.add("transport", transport,
           "replicate: every process holds all experts; move_weights: experts are gathered from "
           "their owners; move_tokens: tokens are sent to them; auto: replicate for expert = 1, "
           "else move_weights")
      .one_of({"auto", "replicate", "move_weights", "move_tokens"});
  list.add("gather", gather,
           "gathered weights stay for a block's pass (block, needs train.memory = recompute) or "
           "for the step (step); auto: block where that is possible")
      .one_of({"auto", "block", "step"});
  list.add("owners", owners,
           "of a layer's experts: default (in turn), balanced (by live parameters), or a process "
           "of 0 to expert - 1 for each");
  list.add("head_owners", head_owners,
           "of a layer's attention heads: default (in turn), or a process for each");
  list.add("heads", heads,
           "where gated attention heads run: home (where the tokens are) or shard (at their "
           "owners)")
      .one_of({"home", "shard"});
}

void ParallelConfig::validate(bool keeps_graphs) const {
  if (gather == "block" && keeps_graphs && chosen() != Transport::replicate) {
    throw base::UsageError(
        "configuration parallel.gather = block with train.memory = keep: a graph that is kept "
        "keeps the weights of its block, expected train.memory = recompute or gather = step");
  }
  if (heads == "shard" && expert == 1) {
    throw base::UsageError(
        "configuration parallel.heads = shard with parallel.expert = 1: one process owns all heads "
        "of its copy, expected parallel.expert above 1 or heads = home");
  }
}

Transport ParallelConfig::chosen() const {
  if (transport == "move_weights") return Transport::move_weights;
  if (transport == "move_tokens") return Transport::move_tokens;
  return transport == "replicate" || expert == 1 ? Transport::replicate : Transport::move_weights;
}

bool ParallelConfig::gathers_steps(bool keeps_graphs) const {
  return gather == "step" || (gather == "auto" && keeps_graphs);
}

ParallelConfig ParallelConfig::shared_by(std::int64_t processes) const {
  auto other = *this;
  if (processes == expert) return other;
  other.expert = processes;
  if (owners != std::vector<std::string>{"balanced"}) other.owners = {"default"};
  other.head_owners = {"default"};
  if (processes == 1) other.heads = "home";
  return other;
}

std::vector<int> explicit_owners(const std::string& key, const std::vector<std::string>& words,
                                 const std::vector<std::string>& names, int processes) {
  std::vector<int> owners;
  if (words.size() == 1 && std::find(names.begin(), names.end(), words[0]) != names.end()) {
    return owners;
  }
  for (const auto& word : words) {
    int owner = -1;
    const auto* end = word.data() + word.size();
    const auto parsed = std::from_chars(word.data(), end, owner);
    if (parsed.ec != std::errc{} || parsed.ptr != end || owner < 0 || owner >= processes) {
      throw base::UsageError(base::text("configuration parallel.", key, " = ",
                                        base::join(words, ","), ": '", word, "', expected ",
                                        base::join(names, ", "), " or processes from 0 to ",
                                        processes - 1, ", below parallel.expert"));
    }
    owners.push_back(owner);
  }
  return owners;
}

}  // namespace dfmoa::distributed
