#include "src/train/config.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::train {

void TrainConfig::fields(base::FieldList& list) {
  list.add("steps", steps, "optimiser steps of the whole run").range(1, 1e12);
  list.add("seed", seed, "of initialisation, data order and noise").range(0, 9e15);
  list.add("micro_batches", micro_batches, "packed rows of a step, over all processes")
      .range(1, 1e6);
  list.add("tokens", tokens, "tokens of a row at most").range(1, 1e7);
  list.add("documents", documents, "documents of a row exactly; 0: as many as fit").range(0, 1e6);
  list.add("device", device, "auto: a GPU where there is one; cpu; cuda")
      .one_of({"auto", "cpu", "cuda"});
  list.add("precision", precision, "fp32; fp64 for tests").one_of({"fp32", "fp64"});
  list.add("memory", memory, "keep: every block keeps its graph; recompute: forward again")
      .one_of({"keep", "recompute"});
  list.add("statistics", statistics, "gate statistics of this step (exact) or the last (lag_one)")
      .one_of({"exact", "lag_one"});
  list.add("optimizer", optimizer, "adamw or sgd").one_of({"adamw", "sgd"});
  list.add("learning_rate", learning_rate, "peak rate of the adapters").range(0, 10);
  list.add("beta1", beta1, "AdamW").range(0, 0.999999);
  list.add("beta2", beta2, "AdamW").range(0, 0.999999);
  list.add("epsilon", epsilon, "AdamW; at 0 a gradient of 0 would be 0 / 0").range(1e-30, 1);
  list.add("weight_decay", weight_decay, "of the adapters, decoupled").range(0, 10);
  list.add("clip", clip, "largest global gradient norm; 0: never clipped").range(0, 1e9);
  list.add("warmup", warmup, "steps of linear warm-up; -1: 3 % of the steps").range(-1, 1e12);
  list.add("schedule", schedule, "after the warm-up").one_of({"cosine", "constant"});
  list.add("final_rate", final_rate, "share of the peak rate at the last step (cosine)")
      .range(0, 1);
  list.add("evaluate_every", evaluate_every, "steps between two evaluations on data.eval; 0: none")
      .range(0, 1e9);
}

std::int64_t TrainConfig::warmup_steps() const {
  return warmup >= 0 ? warmup : steps * 3 / 100;
}

void LogConfig::fields(base::FieldList& list) {
  list.add("every", every, "steps between two lines of metrics").range(1, 1e9);
  list.add("tensorboard", tensorboard, "also write TensorBoard events");
  list.add("peak_tflops", peak_tflops,
           "TFLOP/s that a process could reach at best; with it throughput/mfu is written; 0: not")
      .range(0, 1e9);
}

std::vector<std::pair<std::string, base::FieldList>> sections_of(RunConfig& config) {
  std::vector<std::pair<std::string, base::FieldList>> sections;
  const auto add = [&](const std::string& name, auto& section) {
    sections.emplace_back(name, base::FieldList::of(section));
  };
  add("model", config.model);
  add("data", config.data);
  for (auto& [name, section] : config.plan.adapters) add("adapter." + name, section);
  for (auto& [name, section] : config.plan.routers) add("router." + name, section);
  for (auto& [name, section] : config.plan.rank_gates) add("rank." + name, section);
  add("dfa", config.plan.dfa);
  add("parallel", config.parallel);
  add("train", config.train);
  add("checkpoint", config.checkpoint);
  add("log", config.log);
  return sections;
}

std::string keys_text() {
  RunConfig config;
  config.plan.adapters["NAME"];
  config.plan.routers["NAME"];
  config.plan.rank_gates["NAME"];
  std::string text;
  for (const auto& [section, list] : sections_of(config)) {
    text += "\n[" + section + "]\n";
    for (const auto& field : list.all()) {
      auto line = "  " + field.name() + " = " + field.value();
      line.resize(std::max<std::size_t>(line.size() + 2, 34), ' ');
      text += line + field.help() + "\n";
    }
  }
  return text;
}

void RunConfig::set(const std::string& key, const std::string& value) {
  if (value.find_first_of("\r\n") != std::string::npos) {
    throw base::UsageError("configuration key " + key + ": its value has more than one line");
  }
  const auto dot = key.rfind('.');
  if (dot == std::string::npos) {
    std::string hint = "train.steps";
    for (const auto& [section, list] : sections_of(*this)) {
      for (const auto& field : list.all()) {
        if (field.name() == key) hint = section + "." + key;
      }
    }
    throw base::UsageError(
        base::text("configuration key ", key, ": expected section.key, such as ", hint));
  }
  const auto section = key.substr(0, dot);
  const auto first_dot = section.find('.');
  if (first_dot != std::string::npos) {
    const auto name = section.substr(first_dot + 1);
    const auto kind = section.substr(0, first_dot);
    if (kind == "adapter") plan.adapters.try_emplace(name);
    if (kind == "router") plan.routers.try_emplace(name);
    if (kind == "rank") plan.rank_gates.try_emplace(name);
  }
  std::vector<std::string> known;
  for (auto& [name, list] : sections_of(*this)) {
    known.push_back(name);
    if (name != section) continue;
    list.assign(section, key.substr(dot + 1), value);
    return;
  }
  known.insert(known.end(), {"adapter.NAME", "router.NAME", "rank.NAME"});
  throw base::UsageError(base::text("configuration key ", key, ": there is no section [", section,
                                    "]; the nearest is [", base::nearest(section, known), "]"));
}

std::vector<std::pair<std::string, std::string>> RunConfig::resolved() const {
  std::vector<std::pair<std::string, std::string>> all;
  auto copy = *this;
  for (const auto& [section, list] : sections_of(copy)) {
    for (const auto& field : list.all())
      all.emplace_back(section + "." + field.name(), field.value());
  }
  return all;
}

std::string RunConfig::ini() const {
  std::string text;
  auto copy = *this;
  for (const auto& [section, list] : sections_of(copy)) {
    text += (text.empty() ? "[" : "\n[") + section + "]\n";
    for (const auto& field : list.all()) text += field.name() + " = " + field.value() + "\n";
  }
  return text;
}

namespace {

/// A section that no adapter names would be read and never used: a misspelt name.
template <class Sections>
void refuse_unnamed(const std::string& kind, const std::string& key, const Sections& sections,
                    const std::vector<std::string>& named) {
  for (const auto& [name, unused] : sections) {
    if (std::find(named.begin(), named.end(), name) != named.end()) continue;
    const auto hint = named.empty() ? base::text("adapter.NAME.", key, " = ", name, " would")
                                    : base::text("the nearest that one names is [", kind, ".",
                                                 base::nearest(name, named), "]");
    throw base::UsageError(base::text("configuration section [", kind, ".", name,
                                      "]: no adapter and no [dfa] names it; ", hint));
  }
}

/// The other way round: what a key names must be there. An empty name names nothing.
template <class Sections>
void require_named(const std::string& key, const std::string& name, const std::string& kind,
                   const Sections& sections) {
  if (name.empty() || sections.contains(name)) return;
  throw base::UsageError(base::text("configuration ", key, " = ", name, ": there is no section [",
                                    kind, ".", name, "]"));
}

}  // namespace

void RunConfig::validate() const {
  parallel.validate(train.memory == "keep");
  std::vector<std::string> routers;
  std::vector<std::string> rank_gates;
  require_named("dfa.router", plan.dfa.router, "router", plan.routers);
  require_named("dfa.rank_gate", plan.dfa.rank_gate, "rank", plan.rank_gates);
  for (const auto& [name, adapter] : plan.adapters) {
    require_named("adapter." + name + ".router", adapter.router, "router", plan.routers);
    require_named("adapter." + name + ".rank_gate", adapter.rank_gate, "rank", plan.rank_gates);
    if (!adapter.router.empty()) routers.push_back(adapter.router);
    if (!adapter.rank_gate.empty()) rank_gates.push_back(adapter.rank_gate);
  }
  if (!plan.dfa.router.empty()) routers.push_back(plan.dfa.router);
  if (!plan.dfa.rank_gate.empty()) rank_gates.push_back(plan.dfa.rank_gate);
  refuse_unnamed("router", "router", plan.routers, routers);
  refuse_unnamed("rank", "rank_gate", plan.rank_gates, rank_gates);
  for (const auto& [name, router] : plan.routers) {
    const bool reads_prompt = router.is_per_document() && router.scope != "first_token";
    if (!reads_prompt || data.long_documents != "split") continue;
    throw base::UsageError(base::text("data.long = split does not go with router.", name,
                                      ".scope = ", router.scope,
                                      ": a later piece has no prompt to read, expected truncate or "
                                      "error"));
  }
  const auto every = train.evaluate_every;
  if (every > 0 && data.eval.empty()) {
    throw base::UsageError(
        base::text("train.evaluate_every = ", every, " needs held-out files: set data.eval"));
  }
  if (checkpoint.keep_best && (every == 0 || checkpoint.every % every != 0)) {
    throw base::UsageError(
        base::text("checkpoint.keep_best needs an evaluation at every checkpoint: "
                   "checkpoint.every is ",
                   checkpoint.every,
                   ", expected a multiple of "
                   "train.evaluate_every, which is ",
                   every));
  }
}

bool RunConfig::is_free(const std::string& key) {
  const auto section = key.substr(0, key.find('.'));
  return section == "parallel" || section == "log" || section == "checkpoint" ||
         key == "model.path" || key == "data.train" || key == "data.eval" ||
         key == "data.index_dir" || key == "train.memory" || key == "train.device" ||
         key == "train.evaluate_every";
}

}  // namespace dfmoa::train
