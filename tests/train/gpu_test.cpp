// The demo's configuration on a GPU: the figures and parameters of the CPU, a run that repeats and
// resumes bit for bit, and what is said of the trained model there.
#include <gtest/gtest.h>

#include "src/model/generate.h"
#include "src/ops/device.h"
#include "src/train/evaluate.h"
#include "tests/support/gpu.h"
#include "tests/train/device_run.h"

namespace dfmoa::train {
namespace {

class GpuTest : public DeviceRun {
 protected:
  void SetUp() override {
    if (const auto reason = tests::missing_gpu(); !reason.empty()) GTEST_SKIP() << reason;
    DeviceRun::SetUp();
    gpu_ = ops::choose_device("cuda", 0, "train.device");
  }

  at::Device gpu_{at::kCPU};
};

TEST_F(GpuTest, the_demo_trains_as_on_the_cpu_in_fp64) {
  const auto there = train_alone(config(), into("there"), gpu_);
  const auto here = train_alone(config(), into("here"));
  expect_same_figures("there", "here", 1e-9);
  EXPECT_LE(distance(*there.model, *here.model), 1e-9);
}

/// AdamW turns the rounding of a small gradient into a step of another size: figures, not bits.
TEST_F(GpuTest, the_demo_trains_as_on_the_cpu_in_fp32) {
  auto run = config();
  run.set("train.precision", "fp32");
  (void)train_alone(run, into("there"), gpu_);
  (void)train_alone(run, into("here"));
  expect_same_figures("there", "here", 1e-3);
}

TEST_F(GpuTest, runs_repeat_and_resume_bit_for_bit) {
  for (const std::string precision : {"fp64", "fp32"}) {
    for (const std::string memory : {"keep", "recompute"}) {
      auto run = config();
      run.set("train.precision", precision);
      run.set("train.memory", memory);
      const auto name = precision + memory;
      const auto hash = train_alone(run, into(name), gpu_).report.parameters_hash;
      EXPECT_EQ(train_alone(run, into(name + "again"), gpu_).report.parameters_hash, hash) << name;
      (void)train_alone(run, into(name + "halved", kCutBefore), gpu_);
      EXPECT_EQ(train_alone(run, into(name + "halved"), gpu_).report.parameters_hash, hash) << name;
    }
  }
}

TEST_F(GpuTest, a_checkpoint_moves_between_cpu_and_gpu) {
  (void)train_alone(config(), into("moved", 1), gpu_);
  (void)train_alone(config(), into("moved", 2));
  const auto moved = train_alone(config(), into("moved"), gpu_);
  const auto here = train_alone(config(), into("here"));
  EXPECT_LE(distance(*moved.model, *here.model), 1e-9);
}

TEST_F(GpuTest, evaluates_and_generates_as_on_the_cpu) {
  (void)train_alone(config(), into("run"));
  const auto file =
      write("held_out.jsonl", R"({"prompt": "xyz the", "completion": "kk", "task": "a"}
{"prompt": "uvw", "completion": "zyxw", "task": "b"}
)");
  base::Logger log(false);
  std::vector<Evaluation> evaluations;
  std::vector<std::vector<model::Generator::Result>> texts;
  for (const auto device : {at::Device(at::kCPU), gpu_}) {
    const auto opened = open_model(folder_ / "run", "", log, device);
    evaluations.push_back(
        evaluate(*opened.model, *opened.tokenizer, *opened.reader, {file}, {512, true, 8, 2, {}}));
    model::SamplingConfig sampling;
    sampling.tokens = 12;
    sampling.temperature = 0.8;
    const model::Generator generator(*opened.model, sampling, {}, opened.tokenizer->vocabulary());
    texts.push_back(generator.run({{3, 4, 5}, {6, 7}}, {{0, 1}, {0, 1}}, {}, true));
  }
  for (const auto& [task, figures] : evaluations[0].tasks) {
    EXPECT_NEAR(evaluations[1].tasks.at(task).ce, figures.ce, 1e-11) << task;
    EXPECT_EQ(evaluations[1].tasks.at(task).exact_match, figures.exact_match) << task;
  }
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(texts[1][i].tokens, texts[0][i].tokens) << i;
}

}  // namespace
}  // namespace dfmoa::train
