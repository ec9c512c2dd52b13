#include <ATen/Parallel.h>

#include <atomic>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "checkpoints/retention.h"
#include "distributed/comm/host.h"
#include "distributed/comm/local.h"
#include "distributed/comm/mpi.h"
#include "distributed/comm/start_check.h"
#include "launch/commands.h"
#include "launch/dry_run.h"
#include "launch/plan_text.h"
#include "launch/run_config.h"
#include "launch/run_folder.h"
#include "launch/version.h"
#include "src/base/text.h"
#include "src/data/census.h"
#include "src/data/jsonl.h"
#include "src/model/literal_forms.h"
#include "src/model/placement.h"
#include "src/ops/device.h"
#include "src/train/ini.h"
#include "src/train/open_model.h"
#include "src/train/trainer.h"

namespace dfmoa::launch {
namespace {

// A signal handler can reach nothing but a global.
std::atomic<bool> stop_requested{false};

void request_stop(int /*signal*/) {
  stop_requested = true;
}

/// Cores are shared between the processes of this host; OMP_NUM_THREADS has the last word.
void set_threads(int processes_of_host) {
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return;
  const auto cores = std::max(1U, std::thread::hardware_concurrency());
  at::set_num_threads(std::max(1, static_cast<int>(cores) / processes_of_host));
}

std::filesystem::path folder_of(const Options& options) {
  if (options.has("run") && options.text("run").empty()) {
    throw base::UsageError("train: --run is empty, expected the path of a run folder");
  }
  if (options.has("run")) return options.text("run");
  return std::filesystem::path("runs") / std::filesystem::path(options.text("config")).stem();
}

/// The configuration file: -c, or the one that a begun run keeps in its folder.
std::filesystem::path config_file(const Options& options) {
  if (options.has("config")) return options.text("config");
  if (!options.has("run")) throw base::UsageError("train: -c FILE is missing");
  auto kept = folder_of(options) / "config.ini";
  if (std::filesystem::exists(kept)) return kept;
  throw base::UsageError("train: -c FILE is missing, and there is no " + kept.string());
}

train::RunConfig read_config(const Options& options) {
  auto config = read_run_config(config_file(options), options);
  if (options.get<std::int64_t>("steps") < -1) {
    throw base::UsageError(base::text("--steps ", options.get<std::int64_t>("steps"),
                                      ": expected a step of the schedule, 0 or more"));
  }
  if (config.model.path.empty()) throw base::UsageError("configuration model.path is missing");
  if (config.data.train.empty()) throw base::UsageError("configuration data.train is missing");
  config.validate();
  refuse_without_adapters(config);
  return config;
}

void print_json(const std::filesystem::path& run, const train::RunReport& report) {
  const nlohmann::json json{{"run", run.string()},
                            {"steps", report.steps},
                            {"tokens_seen", report.tokens_seen},
                            {"ce", report.ce},
                            {"tokens_per_s", report.tokens_per_s},
                            {"peak_bytes", train::peak_memory_bytes()},
                            {"parameters_hash", report.parameters_hash},
                            {"checkpoint", report.checkpoint.string()}};
  std::cout << json.dump() << "\n";
}

std::unique_ptr<comm::Communicator> make_world() {
  auto world = comm::started_by_launcher() ? comm::make_mpi_world() : comm::make_single();
  comm::check_num_processes(world->num_processes(), ::getenv);
  return world;
}

/// Before anything large is read: every process was asked for the same, of the same program.
void check_command(const Options& options, const train::RunConfig& config,
                   comm::Communicator& comm) {
  std::string lines;
  for (const auto& [key, value] : config.resolved()) lines += key + " = " + value + "\n";
  lines += base::text("--run ", folder_of(options).string(), "\n--resume ", options.text("resume"),
                      "\n--steps ", options.get<std::int64_t>("steps"), "\n--allow-change ",
                      base::join(options.list("allow-change"), " "), "\n");
  comm::require_alike(comm, {"the configuration", lines, base::ExitCode::usage,
                             "every process needs the same file, --set and options"});
  comm::require_alike(comm, {"the program", version_text(), base::ExitCode::machine,
                             "every process needs the same build; DFMOA_CPU lowers the CPU level"});
}

/// Whether a checkpoint is there that this start goes on from.
bool goes_on(const Options& options) {
  const auto resume = options.text("resume");
  if (resume != "auto") return resume != "none";
  const auto checkpoints = folder_of(options) / "checkpoints";
  return std::filesystem::exists(checkpoints) && !checkpoints::steps_in(checkpoints).empty();
}

std::string undivided(std::int64_t expert, std::int64_t processes) {
  return base::text("parallel.expert = ", expert, " does not divide the ", processes,
                    processes == 1 ? " process" : " processes");
}

/// A fresh run is refused where its experts cannot be shared as configured; one that goes on, with
/// whatever processes there are now, shares them as it can. What it was asked for stays in its
/// configuration: a later start may have the processes for it.
distributed::ParallelConfig fit_experts(const Options& options, const train::RunConfig& config,
                                        comm::Communicator& comm) {
  const std::int64_t processes = comm.num_processes();
  const auto expert = config.parallel.expert;
  if (processes % expert == 0) return config.parallel;
  if (!goes_on(options)) {
    throw base::UsageError("configuration " + undivided(expert, processes) +
                           ", expected a divisor of their number");
  }
  return config.parallel.shared_by(std::gcd(expert, processes));
}

void list_train_options(Options& options) {
  list_settings(options);
  namespace po = boost::program_options;
  options.add()("config,c", po::value<std::string>(),
                "configuration file (default config.ini of the run folder)")(
      "run", po::value<std::string>(), "run folder (default runs/NAME of the configuration)")(
      "resume", po::value<std::string>()->default_value("none"),
      "auto, none or the path of a checkpoint")(
      "allow-change", po::value<std::vector<std::string>>()->composing(),
      "a key that may differ from the checkpoint's, repeatable")(
      "steps", po::value<std::int64_t>()->default_value(-1),
      "stop after this step of the schedule")(
      "dry-run", "count the samples, show three rows with their loss mask, train nothing")(
      "json", "print the result as JSON");
}

/// Hours later would be too late to say that the held-out data cannot be read.
void check_held_out(const train::RunConfig& config, const model::Transformer& model,
                    const data::SampleReader& reader, comm::Communicator& comm) {
  if (config.train.evaluate_every == 0) return;
  const auto census = data::take_census(config.data.eval, reader);
  const auto files = base::join(config.data.eval, ", ");
  if (census.loss_tokens == 0) {
    throw base::ContentError(base::text("data.eval = ", files, ": no token of its ", census.samples,
                                        " samples bears loss, expected at least one answer"));
  }
  const auto positions = model.base().architecture.max_positions;
  if (census.longest > positions) {
    throw base::ContentError(base::text(census.longest_where, ": the held-out document has ",
                                        census.longest, " tokens, expected at most the ", positions,
                                        " positions of the model"));
  }
  if (census.bad_lines == 0) return;
  base::Logger(comm.process() == 0)
      .warn(base::text("data.eval = ", files, ": ", census.bad_lines,
                       " broken lines are passed over; the first: ", census.first_bad));
}

/// What is predicted before the first step.
train::StepCost predict(train::RunConfig config, const model::Transformer& model,
                        const distributed::ExpertTransport& transport, std::int64_t step) {
  config.parallel = transport.config();
  return train::cost_of(config, model.base(), distributed::layout_of(model, transport),
                        transport.mesh().world().num_processes(),
                        !model.base().embedding_VD.is_cpu(), step);
}

/// ": 3.1 MB per step", sent by process 0.
std::string sent_words(const train::StepCost& plan) {
  return base::text(": ", bytes_text(static_cast<double>(plan.sent_bytes())), " per step",
                    plan.is_estimate ? " (an estimate)" : "");
}

/// The first lines of a run: where, how, and what it will take.
void introduce(const train::RunConfig& config, const model::Transformer& model,
               const distributed::ExpertTransport& transport, const train::StepCost& plan,
               base::Logger& log) {
  const auto processes = transport.mesh().world().num_processes();
  log.info(base::text(processes, processes == 1 ? " process, " : " processes, ",
                      comm::started_by_launcher() ? "mpi" : "one program", ", on ",
                      ops::describe_device(config.train.device, model.base().embedding_VD.device()),
                      ", ", spread_text(plan.spread), sent_words(plan), ", ", at::get_num_threads(),
                      " threads each; ", model.trainable_parameters(),
                      " trainable parameters on a base of ", model.base().bytes, " bytes"));
  log.info(base::text("predicted memory of the fullest process: ",
                      bytes_text(static_cast<double>(distributed::total_of(plan.memory))), " (",
                      memory_text(plan.memory), ")"));
  const auto sharing = transport.config().expert;
  if (sharing != config.parallel.expert) {
    const bool drops_lists = transport.config().owners != config.parallel.owners ||
                             transport.config().head_owners != config.parallel.head_owners;
    log.info(base::text(undivided(config.parallel.expert, processes), ": in this start ", sharing,
                        sharing == 1 ? " holds" : " share", " the experts of a copy of the model",
                        drops_lists ? ", and listed owners are chosen by default" : ""));
  }
  const bool is_first = transport.mesh().world().process() == 0;  // every process may warn
  const auto idle = idle_text(processes, config.train.micro_batches);
  if (is_first && !idle.empty()) log.warn(idle);
  if (is_first && sharing == 1 && config.parallel.expert == 1 && transport.is_sharded()) {
    log.warn(base::text("parallel.transport = ", config.parallel.transport,
                        " with parallel.expert = 1: every process holds all experts, and nothing "
                        "is shared"));
  }
  for (const auto& note : model::literal_forms(config.plan)) log.info("as published: " + note);
}

/// Collective: the most that a process took; 0 on a GPU, whose memory the system does not count.
std::int64_t fullest(std::int64_t peak_bytes, const model::Transformer& model,
                     comm::Communicator& comm) {
  if (!model.base().embedding_VD.is_cpu()) return 0;
  comm.all_reduce(&peak_bytes, 1, base::DType::i64, comm::Op::max, "end/peak");
  return peak_bytes;
}

/// Trains in the run folder until the schedule, --steps or a signal ends it.
base::ExitCode train_in_folder(const Options& options, const train::RunConfig& config,
                               model::Transformer& model, data::Loader& loader,
                               distributed::ExpertTransport& transport) {
  auto& comm = transport.mesh().world();
  const auto folder = folder_of(options);
  const RunFolder run_folder(folder, comm);
  base::Logger log(comm.process() == 0, options.verbose());
  if (comm.process() == 0) log.add_file(folder / "log.txt");
  train::Trainer trainer(config, model, loader, transport, log);
  const train::RunOptions run{folder, options.text("resume"), options.list("allow-change"),
                              options.get<std::int64_t>("steps"), &stop_requested};
  trainer.begin(run);
  const auto plan = predict(config, model, transport, trainer.step());
  introduce(config, model, transport, plan, log);
  comm::require_alike(comm,
                      {"the state before the first step", base::text("step ", trainer.step(), "\n"),
                       base::ExitCode::machine, "do all see the same run folder?"});
  transport.check_replicas("start/replicas");
  run_folder.describe(config, comm);
  // What every process does last lies on disk even after kill -9: `inspect --collectives` reads it.
  if (comm.process() == 0) std::filesystem::create_directories(folder / "collectives");
  comm.barrier("start/collectives");
  comm.keep_ring(folder / "collectives");
  const auto report = trainer.run(run);
  if (comm.process() == 0 && options.has("json")) print_json(folder, report);
  const auto peak = fullest(report.cost.peak_bytes, model, comm);
  if (report.cost.steps > 0) log.info(plan_against_actual(plan, report.cost, peak));
  log.info(base::text("step ", report.steps, ": saved ", report.checkpoint.string(),
                      ", parameters ", report.parameters_hash));
  if (report.stopped && report.steps < config.train.steps) {
    log.info(base::text("stopped by a signal at step ", report.steps,
                        ": --resume auto goes on from here"));
  }
  comm.barrier("end");  // mpirun kills the others at the first exit that is not 0
  return report.stopped && report.steps < config.train.steps ? base::ExitCode::stopped
                                                             : base::ExitCode::done;
}

}  // namespace

base::ExitCode run_train(const Arguments& arguments) {
  Options options("train", "Trains adapters as a configuration file says.");
  list_train_options(options);
  options.add_epilogue("\nKeys of a configuration file, with their defaults:\n" +
                       train::keys_text());
  if (!options.parse(arguments)) return base::ExitCode::done;
  if (!options.has("dry-run")) {  // a signal must not find the program unprepared while it loads
    std::signal(SIGUSR1, request_stop);
    std::signal(SIGTERM, request_stop);
  }
  const auto comm = make_world();
  const auto config = read_config(options);
  check_command(options, config, *comm);
  const auto parallel = fit_experts(options, config, *comm);
  const auto place = comm::place_on_host(*comm, comm::host_name());
  set_threads(place.processes);
  const auto device = ops::choose_device(config.train.device, place.index, "train.device");
  if (config.train.evaluate_every > 0) (void)data::JsonlFiles(config.data.eval);

  const auto base_model = model::load_base_model(config.model, train::compute_type(config.train));
  comm::require_alike(*comm,
                      {"the base model", "hash " + base_model->hash + "\n", base::ExitCode::content,
                       "every process needs the same files under model.path"});
  model::Transformer model(model::on_device(*base_model, device));
  distributed::ExpertTransport transport(model, *comm, parallel, config.train.memory == "keep");
  transport.adapt(config.plan, static_cast<std::uint64_t>(config.train.seed));
  const auto tokenizer = data::Tokenizer::from_directory(config.model.path);
  const data::SampleReader reader(config.data, tokenizer, config.model.path);
  check_held_out(config, model, reader, *comm);
  data::Loader loader(config.data,
                      {config.train.micro_batches, config.train.tokens, config.train.documents,
                       model.base().architecture.max_positions},
                      reader, static_cast<std::uint64_t>(config.train.seed));
  if (options.has("dry-run")) {
    if (comm->process() == 0) print_dry_run(config, tokenizer, reader, loader);
    return base::ExitCode::done;
  }
  return train_in_folder(options, config, model, loader, transport);
}

}  // namespace dfmoa::launch
