// Runs of a mixture with rank gates, budget and cut, in fp64.
#pragma once

#include "src/base/error.h"
#include "tests/support/small_run.h"

namespace dfmoa::train {

class TrainerTest : public SmallRun {
 protected:
  RunConfig config() const {
    return with({{"adapter.main.experts", "3"},
                 {"adapter.main.rank", "2"},
                 {"adapter.main.router", "main"},
                 {"adapter.main.rank_gate", "main"},
                 {"router.main.kind", "softmax"},
                 {"rank.main.budget", "50"},
                 {"train.steps", "10"},
                 {"train.micro_batches", "3"},
                 {"train.tokens", "16"},
                 {"train.learning_rate", "1e-2"},
                 {"train.precision", "fp64"},
                 {"checkpoint.every", "4"}});
  }

  static RunReport train(const RunConfig& run, const RunOptions& options, int processes = 1) {
    RunReport report;
    comm::run_local(processes, [&](comm::Communicator& comm) {
      const auto mine = SmallRun::train(run, options, comm).report;
      if (comm.process() == 0) report = mine;
    });
    return report;
  }

  /// What `body` failed of, with its context; an error of the machine.
  template <class Body>
  static std::string machine_error_of(Body&& body) {
    try {
      body();
    } catch (const std::exception& error) {
      EXPECT_EQ(base::exit_code(error), base::ExitCode::machine);
      return base::describe(error);
    }
    ADD_FAILURE() << "nothing was thrown";
    return {};
  }

  /// The last process' model of a run whose experts and routers do something from the start.
  static std::unique_ptr<model::Transformer> train_stirred(const RunConfig& run,
                                                           const RunOptions& options,
                                                           int processes) {
    std::unique_ptr<model::Transformer> last;
    comm::run_local(processes, [&](comm::Communicator& comm) {
      auto trained = SmallRun::train(run, options, comm, at::kCPU,
                                     [](model::Transformer& model) { model::stir(model); });
      if (comm.process() == comm.num_processes() - 1) last = std::move(trained.model);
    });
    return last;
  }

  /// Largest difference of any parameter, relative to the largest of all.
  static double distance(const model::Transformer& one, const model::Transformer& two) {
    double worst = 0;
    double scale = 0;
    for (std::size_t l = 0; l < one.blocks().size(); ++l) {
      const auto& x = one.blocks()[l].parameters().leaves();
      const auto& y = two.blocks()[l].parameters().leaves();
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (x[i].sizes() != y[i].sizes()) return 1e9;
        if (x[i].numel() == 0) continue;
        worst = std::max(worst, (x[i] - y[i]).abs().max().item<double>());
        scale = std::max(scale, y[i].abs().max().item<double>());
      }
    }
    return worst / scale;
  }

  /// The same of the newest checkpoints of two runs.
  double distance(const std::string& one, const std::string& two) const {
    base::Logger log(false);
    return distance(*open_model(folder_ / one, "", log).model,
                    *open_model(folder_ / two, "", log).model);
  }

  [[nodiscard]] std::vector<std::int64_t> steps_of(const std::string& name) const {
    return checkpoints::steps_in(folder_ / name / "checkpoints");
  }
};

}  // namespace dfmoa::train
