// Whole training runs of a tiny model on a few numbered lines, in a temporary folder.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "distributed/comm/local.h"
#include "src/data/loader.h"
#include "src/model/placement.h"
#include "src/train/open_model.h"
#include "src/train/trainer.h"
#include "tests/data/small_data.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::train {

/// What `--set` would give, in its order.
using Keys = std::vector<std::pair<std::string, std::string>>;

class SmallRun : public data::SmallData {
 protected:
  struct Trained {
    std::unique_ptr<model::Transformer> model;
    RunReport report;
  };

  void SetUp() override {
    data::SmallData::SetUp();
    model::write_tiny_model(folder_);
    write_numbers("train.jsonl", 40);
  }

  /// `run` on the folder's model and lines, with `keys` on top.
  RunConfig with(const Keys& keys, RunConfig run = {}) const {
    run.set("model.path", folder_.string());
    run.set("data.train", (folder_ / "train.jsonl").string());
    run.set("log.tensorboard", "false");
    for (const auto& [key, value] : keys) run.set(key, value);
    return run;
  }

  RunOptions into(const std::string& name, std::int64_t stop_after = -1,
                  const std::string& resume = "auto") const {
    return {folder_ / name, resume, {}, stop_after, nullptr};
  }

  /// What is done to a model before a run begins.
  using Prepare = std::function<void(model::Transformer&)>;
  /// What is looked at when it has ended, while its transport still serves the model.
  using After = std::function<void(model::Transformer&)>;

  /// What the program does between reading its configuration and its last line, by one process.
  static Trained train(const RunConfig& run, const RunOptions& options, comm::Communicator& comm,
                       at::Device device = at::kCPU, const Prepare& prepare = {},
                       const After& after = {}) {
    Trained trained;
    std::filesystem::create_directories(options.folder);
    base::Logger log(false);
    const auto base = model::load_base_model(run.model, compute_type(run.train));
    trained.model = std::make_unique<model::Transformer>(model::on_device(*base, device));
    distributed::ExpertTransport transport(*trained.model, comm, run.parallel,
                                           run.train.memory == "keep");
    transport.adapt(run.plan, static_cast<std::uint64_t>(run.train.seed));
    if (prepare) prepare(*trained.model);
    const auto tokenizer = data::Tokenizer::from_directory(run.model.path);
    const data::SampleReader reader(run.data, tokenizer, run.model.path);
    data::Loader loader(run.data,
                        {run.train.micro_batches, run.train.tokens, run.train.documents,
                         base->architecture.max_positions},
                        reader, static_cast<std::uint64_t>(run.train.seed));
    Trainer trainer(run, *trained.model, loader, transport, log);
    trainer.begin(options);
    trained.report = trainer.run(options);
    if (after) after(*trained.model);
    return trained;
  }

  static Trained train_alone(const RunConfig& run, const RunOptions& options,
                             at::Device device = at::kCPU) {
    const auto comm = comm::make_single();
    return train(run, options, *comm, device);
  }

  /// Figure `key` by step, from the metrics of run `name`.
  std::map<std::int64_t, double> figures(const std::string& name, const std::string& key) const {
    std::map<std::int64_t, double> values;
    std::istringstream lines(base::read_file(folder_ / name / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["key"] == key) values[json["step"]] = json["value"].get<double>();
    }
    return values;
  }
};

}  // namespace dfmoa::train
