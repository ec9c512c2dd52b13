#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "launch/commands.h"
#include "launch/plan_text.h"
#include "launch/run_config.h"
#include "src/base/text.h"
#include "src/model/adapt.h"
#include "src/model/shape_model.h"
#include "src/train/open_model.h"

namespace dfmoa::launch {
namespace {

using distributed::Machine;
using train::StepCost;

/// What one is predicted on.
struct PlanOptions {
  double latency_us = 10;
  double gbit = 200;
  std::int64_t node_size = 8;
  double node_latency_us = 3;
  double node_gbit = 2400;
  double tflops = 40;
  double memory_gib = 80;

  void fields(base::FieldList& list) {
    list.add("latency_us", latency_us, "microseconds of a message between nodes").range(0, 1e6);
    list.add("gbit", gbit, "Gbit/s that a process sends to other nodes").range(1e-6, 1e6);
    list.add("node_size", node_size, "processes of a node").range(1, 1e6);
    list.add("node_latency_us", node_latency_us, "microseconds of a message inside a node")
        .range(0, 1e6);
    list.add("node_gbit", node_gbit, "Gbit/s that a process sends inside its node")
        .range(1e-6, 1e6);
    list.add("tflops", tflops, "TFLOP/s that a process reaches in products of fp32 matrices")
        .range(1e-6, 1e6);
    list.add("memory_gib", memory_gib, "GiB that a process has").range(1e-6, 1e6);
  }
  [[nodiscard]] Machine machine() const {
    return {{latency_us * 1e-6, gbit * 1e9 / 8},
            {node_latency_us * 1e-6, node_gbit * 1e9 / 8},
            node_size,
            tflops * 1e12};
  }
  [[nodiscard]] double memory_bytes() const { return memory_gib * 1024 * 1024 * 1024; }
};

struct Candidate {
  StepCost cost;
  double seconds = 0;
  double memory = 0;
  bool fits = false;

  [[nodiscard]] std::string name() const { return spread_text(cost.spread); }
};

/// Predicts layouts of one model.
class Planner {
 public:
  Planner(const train::RunConfig& config, int processes, const PlanOptions& options)
      : config_(config),
        processes_(processes),
        options_(options),
        base_(model::shape_model(config.model, train::compute_type(config.train))),
        whole_(model::plan_blocks(config.plan, *base_)) {}

  [[nodiscard]] Candidate of(const train::RunConfig& config) const {
    const auto& a = base_->architecture;
    // Owners beyond the processes are refused before anybody is asked to own something.
    (void)distributed::spread_of(config.parallel, processes_, config.train.memory == "keep");
    const auto blocks = distributed::plan_layout(whole_, a, config.parallel);
    Candidate one;
    one.cost = train::cost_of(config, *base_, blocks, processes_, config.train.device != "cpu");
    one.seconds = distributed::seconds_of_step(one.cost.traffic, one.cost.flops, one.cost.spread,
                                               options_.machine());
    one.memory = static_cast<double>(distributed::total_of(one.cost.memory));
    one.fits = one.memory <= options_.memory_bytes();
    return one;
  }
  [[nodiscard]] Candidate configured() const { return of(config_); }

  /// Every transport with every number of processes that could own something; the gathered weights
  /// stay as long as the memory form asks for.
  [[nodiscard]] std::vector<Candidate> all() const {
    std::vector<Candidate> found{of(with("replicate", 1))};
    const auto most = std::min<std::int64_t>(most_units(), processes_);
    for (std::int64_t expert = 2; expert <= most; ++expert) {
      if (processes_ % expert != 0) continue;
      for (const char* transport : {"move_weights", "move_tokens"}) {
        found.push_back(of(with(transport, expert)));
      }
    }
    return found;
  }

 private:
  [[nodiscard]] train::RunConfig with(const std::string& transport, std::int64_t expert) const {
    auto config = config_;
    config.parallel = config.parallel.shared_by(expert);
    config.parallel.transport = transport;
    config.parallel.gather = "auto";
    return config;
  }
  [[nodiscard]] std::int64_t most_units() const {
    const auto& a = base_->architecture;
    std::size_t most = 0;
    for (const auto& block : whole_) {
      const model::BlockShape shape{a.hidden, a.heads, a.kv_heads, a.head_dim};
      most = std::max(most, distributed::units_of(block, shape).size());
    }
    return static_cast<std::int64_t>(most);
  }

  const train::RunConfig& config_;
  int processes_;
  const PlanOptions& options_;
  std::shared_ptr<const model::BaseModel> base_;
  std::vector<model::BlockAdapters> whole_;
};

struct Advice {
  std::optional<Candidate> choice;
  std::string reason;
};

/// Sharding is for what does not fit, or for time that it really saves.
Advice advise(const std::vector<Candidate>& all, const PlanOptions& options, bool keeps_graphs) {
  const auto by_seconds = [](const auto& x, const auto& y) { return x.seconds < y.seconds; };
  const auto by_memory = [](const auto& x, const auto& y) { return x.memory < y.memory; };
  std::vector<Candidate> fitting;
  std::copy_if(all.begin(), all.end(), std::back_inserter(fitting),
               [](const auto& one) { return one.fits; });
  const auto room = gib_text(options.memory_bytes());
  if (fitting.empty()) {
    const auto least = *std::min_element(all.begin(), all.end(), by_memory);
    return {std::nullopt,
            base::text("none of these fits in ", room, ", the least is ", least.name(), " with ",
                       gib_text(least.memory),
                       keeps_graphs ? "; train.memory = recompute or fewer train.tokens keep less"
                                    : "; fewer train.tokens keep less")};
  }
  const auto& replicate = all.front();
  const auto fastest = *std::min_element(fitting.begin(), fitting.end(), by_seconds);
  if (!replicate.fits) {
    return {fastest, base::text("replicate needs ", gib_text(replicate.memory), " of ", room,
                                "; of what fits this is the fastest")};
  }
  if (fastest.seconds < 0.95 * replicate.seconds) {
    return {fastest, base::text(seconds_text(fastest.seconds), " a step against ",
                                seconds_text(replicate.seconds), " of replicate, which needs ",
                                gib_text(replicate.memory), " and would fit too")};
  }
  return {replicate,
          base::text("every process has room for all experts (", gib_text(replicate.memory), " of ",
                     room, "), and no sharded layout is faster by more than 5 %")};
}

nlohmann::json memory_json(const StepCost& cost) {
  auto parts = nlohmann::json::object();
  for (const auto& [part, bytes] : cost.memory) parts[part] = bytes;
  return parts;
}

nlohmann::json layout_json(const Candidate& one) {
  return {{"transport", distributed::name_of(one.cost.spread.transport)},
          {"expert", one.cost.spread.expert},
          {"memory_bytes", static_cast<std::int64_t>(one.memory)},
          {"bytes", one.cost.bytes()},
          {"sent_bytes", one.cost.sent_bytes()},
          {"seconds", one.seconds},
          {"fits", one.fits},
          {"estimate", one.cost.is_estimate}};
}

void print_json(const Candidate& configured, const std::vector<Candidate>& all,
                const Advice& advice) {
  const auto& cost = configured.cost;
  auto json = layout_json(configured);
  json["processes"] = cost.spread.processes;
  json["memory"] = memory_json(cost);
  json["flops"] = cost.flops;
  json["traffic"] = nlohmann::json::array();
  for (const auto& one : cost.traffic) {
    json["traffic"].push_back({{"collective", one.collective},
                               {"calls", one.calls},
                               {"bytes", one.bytes},
                               {"sent_bytes", one.sent_bytes}});
  }
  json["layouts"] = nlohmann::json::array();
  for (const auto& one : all) json["layouts"].push_back(layout_json(one));
  json["recommended"] = {{"reason", advice.reason}};
  if (advice.choice) {
    json["recommended"]["transport"] = distributed::name_of(advice.choice->cost.spread.transport);
    json["recommended"]["expert"] = advice.choice->cost.spread.expert;
  }
  std::cout << json.dump() << "\n";
}

void print_line(const std::vector<std::pair<std::string, std::size_t>>& cells) {
  std::string line = " ";
  for (const auto& [text, width] : cells) {
    line += std::string(width > text.size() ? width - text.size() : 1, ' ') + text;
  }
  std::cout << line << "\n";
}

void print_configured(const Candidate& one, const train::TrainConfig& train,
                      const Machine& machine) {
  const auto& cost = one.cost;
  std::cout << cost.spread.processes << (cost.spread.processes == 1 ? " process, " : " processes, ")
            << one.name() << ": " << bytes_text(static_cast<double>(cost.sent_bytes()))
            << " sent per step and process" << (cost.is_estimate ? " (an estimate)" : "") << ", "
            << seconds_text(one.seconds) << " a step\n";
  const auto idle = idle_text(cost.spread.processes, train.micro_batches);
  if (!idle.empty()) std::cout << idle << "\n";
  std::cout << "\nmemory of the fullest process, "
            << (train.device == "cpu" ? "on a CPU" : "on a GPU (train.device = cpu: on a CPU)")
            << (one.fits ? "\n" : "; it does not fit\n") << memory_table(cost.memory)
            << "\ntraffic of a step, of process 0\n";
  print_line({{"collective", 20}, {"calls", 8}, {"bytes", 12}, {"sent", 12}, {"time", 10}});
  for (const auto& traffic : cost.traffic) {
    print_line({{traffic.collective, 20},
                {std::to_string(traffic.calls), 8},
                {bytes_text(static_cast<double>(traffic.bytes)), 12},
                {bytes_text(static_cast<double>(traffic.sent_bytes)), 12},
                {seconds_text(distributed::seconds_of(traffic, cost.spread, machine)), 10}});
  }
  std::cout << "\narithmetic of the busiest process: " << cost.flops / 1e12 << " TFLOP a step, "
            << seconds_text(cost.flops / machine.flops_per_s) << "\n\n";
}

void print_layouts(const std::vector<Candidate>& all, const Advice& advice) {
  std::cout << "layouts\n";
  print_line({{"transport", 14}, {"EP", 6}, {"memory", 12}, {"sent", 12}, {"a step", 10}});
  for (const auto& one : all) {
    print_line({{distributed::name_of(one.cost.spread.transport), 14},
                {std::to_string(one.cost.spread.expert), 6},
                {gib_text(one.memory), 12},
                {bytes_text(static_cast<double>(one.cost.sent_bytes())) +
                     (one.cost.is_estimate ? "~" : ""),
                 12},
                {seconds_text(one.seconds), 10},
                {one.fits ? "" : "does not fit", 14}});
  }
  std::cout << "(~: an estimate: which tokens travel is only known when they are routed)\n\n"
            << "recommended: " << (advice.choice ? advice.choice->name() + ": " : "")
            << advice.reason << "\n";
}

}  // namespace

base::ExitCode run_plan(const Arguments& arguments) {
  namespace po = boost::program_options;
  Options options("plan",
                  "Predicts memory, traffic and time of a step for any number of processes. Of the "
                  "model, config.json is enough: nothing is loaded.");
  options.add()("config,c", po::value<std::string>(), "configuration file")(
      "processes", po::value<std::int64_t>(), "processes of the run")("json",
                                                                      "print the result as JSON");
  list_settings(options);
  PlanOptions machine;
  options.add_fields(base::FieldList::of(machine));
  if (!options.parse(arguments)) return base::ExitCode::done;
  auto fields = base::FieldList::of(machine);
  options.assign_fields(fields);
  if (!options.has("config")) throw base::UsageError("plan: -c FILE is missing");
  if (!options.has("processes")) throw base::UsageError("plan: --processes P is missing");
  const auto processes = options.get<std::int64_t>("processes");
  if (processes < 1 || processes > 1'000'000) {
    throw base::UsageError(
        base::text("plan: --processes ", processes, ", expected from 1 to 1000000"));
  }
  const auto config = read_run_config(options.text("config"), options);
  if (config.model.path.empty()) throw base::UsageError("configuration model.path is missing");
  config.validate();
  refuse_without_adapters(config);
  const Planner planner(config, static_cast<int>(processes), machine);
  const auto configured = planner.configured();
  const auto all = planner.all();
  const auto advice = advise(all, machine, config.train.memory == "keep");
  if (options.has("json")) {
    print_json(configured, all, advice);
  } else {
    print_configured(configured, config.train, machine.machine());
    print_layouts(all, advice);
  }
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
