// The demo's configuration on the pretend accelerator: the figures and parameters of the CPU, our
// own kernels launched, and nothing that makes the host wait but what the collectives carry.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "distributed/comm/local.h"
#include "src/data/loader.h"
#include "src/model/placement.h"
#include "src/train/ini.h"
#include "src/train/open_model.h"
#include "src/train/trainer.h"
#include "tests/data/small_data.h"
#include "tests/support/pretend_device/pretend_device.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::train {
namespace {

// Both sides compute in fp64 with the same CPU kernels; only attention (torch's plain form instead
// of its flash kernel) and our .cu kernels sum in another order.
constexpr double kTolerance = 1e-9;

/// A world of one that notes what had crossed between host and device when a collective began.
class WatchedWorld final : public comm::Communicator {
 public:
  struct Moment {
    std::string tag;
    pretend::Traffic traffic;
  };

  WatchedWorld() : Communicator(0, 1) {}
  [[nodiscard]] const std::vector<Moment>& moments() const { return moments_; }

 private:
  void note() { moments_.push_back({current().tag, pretend::traffic()}); }
  void do_all_reduce(void*, std::int64_t, base::DType, comm::Op) override { note(); }
  void do_all_gather(const void* in, std::size_t bytes, void* out) override {
    if (bytes > 0) std::memcpy(out, in, bytes);
  }
  void do_all_to_all(const void* send, std::span<const std::int64_t> bytes, void* receive,
                     std::span<const std::int64_t>) override {
    if (bytes[0] > 0) std::memcpy(receive, send, static_cast<std::size_t>(bytes[0]));
  }
  void do_broadcast(void*, std::size_t, int) override {}
  void do_barrier() override {}

  std::vector<Moment> moments_;
};

class OnDeviceTest : public data::SmallData {
 protected:
  static constexpr std::int64_t kSteps = 3;
  static constexpr std::int64_t kCutBefore = 2;  // the step that begins with the rank cut

  void SetUp() override {
    data::SmallData::SetUp();
    model::write_tiny_model(folder_);
    write_numbers("train.jsonl", 40);
  }

  /// configs/dfmoa_smollm2.ini with what a tiny model and three steps need: paths, short rows, half
  /// of this model's 2 x 7 x 64 directions as budget, noise from the start and a cut before step 3.
  RunConfig config() const {
    RunConfig run;
    read_ini(std::filesystem::path(DFMOA_CONFIGS) / "dfmoa_smollm2.ini", run);
    for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
             {"model.path", folder_.string()},
             {"data.train", (folder_ / "train.jsonl").string()},
             {"data.eval", ""},
             {"rank.main.budget", "448"},
             {"rank.main.start", "0"},
             {"rank.main.cut", "0.67"},
             {"train.steps", "3"},
             {"train.tokens", "16"},
             {"train.precision", "fp64"},
             {"log.tensorboard", "false"}}) {
      run.set(key, value);
    }
    return run;
  }

  struct Trained {
    std::unique_ptr<model::Transformer> model;
    RunReport report;
  };

  Trained train(const RunConfig& run, at::Device device, const std::string& name,
                comm::Communicator& comm, std::int64_t stop_after = -1) const {
    Trained trained;
    const RunOptions options{folder_ / name, "auto", {}, stop_after, nullptr};
    std::filesystem::create_directories(options.folder);
    base::Logger log(false);
    const auto base = model::load_base_model(run.model, compute_type(run.train));
    trained.model = std::make_unique<model::Transformer>(model::on_device(*base, device));
    trained.model->adapt(run.plan, static_cast<std::uint64_t>(run.train.seed));
    const auto tokenizer = data::Tokenizer::from_directory(run.model.path);
    const data::SampleReader reader(run.data, tokenizer, run.model.path);
    data::Loader loader(run.data, {run.train.micro_batches, run.train.tokens, 0}, reader, 1);
    Trainer trainer(run, *trained.model, loader, comm, log);
    trainer.begin(options);
    trained.report = trainer.run(options);
    return trained;
  }

  Trained train_alone(const RunConfig& run, at::Device device, const std::string& name,
                      std::int64_t stop_after = -1) const {
    const auto comm = comm::make_single();
    return train(run, device, name, *comm, stop_after);
  }

  /// Figure `key` of every step, from the run's metrics.
  std::vector<double> figures(const std::string& name, const std::string& key) const {
    std::vector<double> values;
    std::istringstream lines(base::read_file(folder_ / name / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["key"] == key) values.push_back(json["value"].get<double>());
    }
    return values;
  }

  /// Largest difference of values and moments, relative to the largest number of its tensor.
  static double distance(const model::Transformer& one, const model::Transformer& two) {
    double worst = 0;
    for (std::size_t layer = 0; layer < one.blocks().size(); ++layer) {
      const auto a = one.blocks()[layer].parameters().on_host();
      const auto b = two.blocks()[layer].parameters().on_host();
      if (a.specs().size() != b.specs().size()) return 1e9;
      for (std::size_t i = 0; i < a.specs().size(); ++i) {
        for (const auto& [x, y] :
             {std::pair(a.leaves()[i].detach(), b.leaves()[i].detach()),
              std::pair(a.moment1(i), b.moment1(i)), std::pair(a.moment2(i), b.moment2(i))}) {
          if (x.sizes() != y.sizes()) return 1e9;
          if (x.numel() == 0) continue;  // a site that the cut has emptied
          const double scale = std::max(y.abs().max().item<double>(), 1e-30);
          worst = std::max(worst, (x - y).abs().max().item<double>() / scale);
        }
      }
    }
    return worst;
  }
};

TEST_F(OnDeviceTest, the_demo_trains_as_on_the_cpu) {
  const auto run = config();
  const auto& launches = pretend::launches();
  const std::array<std::int64_t, 4> before{
      launches.nf4_dequantize.load(), launches.gate_scale_forward.load(),
      launches.gate_scale_backward.load(), launches.gate_scale_backward_z.load()};
  const auto there = train_alone(run, pretend::device(), "there");
  EXPECT_GT(launches.nf4_dequantize.load(), before[0]);
  EXPECT_GT(launches.gate_scale_forward.load(), before[1]);
  EXPECT_GT(launches.gate_scale_backward.load(), before[2]);
  EXPECT_GT(launches.gate_scale_backward_z.load(), before[3]);
  const auto here = train_alone(run, at::kCPU, "here");
  ASSERT_EQ(there.report.steps, kSteps);
  for (const std::string key :
       {"train/ce", "train/loss", "train/grad_norm", "rank/model/active", "rank/model/expected",
        "rank/model/total", "router/0/main/entropy", "entropy_weight/1/main"}) {
    const auto expected = figures("here", key);
    const auto values = figures("there", key);
    ASSERT_EQ(expected.size(), static_cast<std::size_t>(kSteps)) << key;
    ASSERT_EQ(values.size(), expected.size()) << key;
    for (std::size_t step = 0; step < values.size(); ++step) {
      EXPECT_NEAR(values[step], expected[step], kTolerance * std::abs(expected[step]))
          << key << " of step " << step + 1;
    }
  }
  EXPECT_EQ(figures("there", "rank/model/total"), (std::vector<double>{896, 896, 448}));
  EXPECT_LE(distance(*there.model, *here.model), kTolerance);
}

TEST_F(OnDeviceTest, the_host_waits_only_with_the_collectives_and_after_the_step) {
  WatchedWorld world;
  const auto trained = train(config(), pretend::device(), "watched", world);
  std::int64_t statistics = 0;
  std::int64_t cut_reads = 0;
  for (const auto& block : trained.model->blocks()) {
    statistics += block.statistics_size();
    for (const auto& group : block.adapters().groups) {
      // What decides which directions stay: gate, probability, |A|, and |B| of every site.
      cut_reads += 3 + static_cast<std::int64_t>(group.sites.size());
    }
  }
  std::vector<std::string> expected;
  for (std::int64_t s = 0; s < kSteps; ++s) {
    for (const auto* tag : {"C0", "C1", "C2/layer/1", "C2/layer/0", "C3", "C3"}) {
      expected.emplace_back(tag);
    }
  }
  const auto& moments = world.moments();
  std::size_t first = 0;  // start-up has collectives of its own, saving too
  while (first < moments.size() && moments[first].tag != "C0") ++first;
  ASSERT_LE(first + expected.size(), moments.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& tag = moments[first + i].tag;
    ASSERT_EQ(tag, expected[i]);
    if (i == 0) continue;
    const auto step = static_cast<std::int64_t>(i) / 6;
    const auto crossed = moments[first + i].traffic - moments[first + i - 1].traffic;
    const auto where = base::text("step ", step + 1, ", before ", tag);
    EXPECT_EQ(crossed.host_reads, 0) << where;
    if (tag == "C1") {  // all routers' statistics
      EXPECT_EQ(crossed.to_host, 1) << where;
      EXPECT_EQ(crossed.to_host_bytes, 8 * statistics) << where;
    } else if (tag == "C3" && expected[i - 1] != "C3") {  // cross-entropy and gradient norm
      EXPECT_EQ(crossed.to_host, 1) << where;
      EXPECT_EQ(crossed.to_host_bytes, 16) << where;
    } else if (tag == "C0") {  // after the last step: the rank for its budget, for its figures
      EXPECT_EQ(crossed.to_host, 2 + (step == kCutBefore ? cut_reads : 0)) << where;
    } else {
      EXPECT_EQ(crossed.to_host, 0) << where;
    }
  }
}

TEST_F(OnDeviceTest, a_run_resumes_bit_for_bit_before_the_cut) {
  const auto run = config();
  const auto straight = train_alone(run, pretend::device(), "straight");
  (void)train_alone(run, pretend::device(), "halved", kCutBefore);
  const auto resumed = train_alone(run, pretend::device(), "halved");
  EXPECT_EQ(resumed.report.steps, kSteps);
  EXPECT_EQ(resumed.report.parameters_hash, straight.report.parameters_hash);
}

TEST_F(OnDeviceTest, gradients_of_two_processes_meet_in_host_memory) {
  auto run = config();
  run.set("train.optimizer", "sgd");  // AdamW turns a gradient of rounding errors into a full step
  const auto one = train_alone(run, pretend::device(), "one");
  std::unique_ptr<model::Transformer> two;
  comm::run_local(2, [&](comm::Communicator& comm) {
    auto trained = train(run, pretend::device(), "two", comm);
    if (comm.process() == 1) two = std::move(trained.model);
  });
  EXPECT_LE(distance(*two, *one.model), kTolerance);
}

}  // namespace
}  // namespace dfmoa::train
