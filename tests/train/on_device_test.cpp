// The demo's configuration on the pretend accelerator: the figures and parameters of the CPU, our
// own kernels launched, and nothing that makes the host wait but what the collectives carry.
#include <gtest/gtest.h>

#include "src/train/full_evaluation.h"
#include "src/train/rank_budget.h"
#include "tests/support/lone_transport.h"
#include "tests/support/pretend_device/pretend_device.h"
#include "tests/support/systems.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_gpt2.h"
#include "tests/support/tiny_run.h"
#include "tests/train/device_run.h"

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
  using InFlight = std::unique_ptr<comm::InFlight>;
  InFlight do_all_reduce(void*, std::int64_t, base::DType, comm::Op) override {
    note();
    return nullptr;
  }
  InFlight do_all_gather(const void* in, std::size_t bytes, void* out) override {
    if (bytes > 0) std::memcpy(out, in, bytes);
    return nullptr;
  }
  InFlight do_all_to_all(const void* send, std::span<const std::int64_t> bytes, void* receive,
                         std::span<const std::int64_t>) override {
    if (bytes[0] > 0) std::memcpy(receive, send, static_cast<std::size_t>(bytes[0]));
    return nullptr;
  }
  std::unique_ptr<comm::Communicator> do_split(int) override { return comm::make_single(); }
  void do_broadcast(void*, std::size_t, int) override {}
  void do_barrier() override {}

  std::vector<Moment> moments_;
};

using OnDeviceTest = DeviceRun;

TEST_F(OnDeviceTest, the_demo_trains_as_on_the_cpu) {
  const auto run = config();
  const auto& launches = pretend::launches();
  const std::array<std::int64_t, 4> before{
      launches.nf4_dequantize.load(), launches.gate_scale_forward.load(),
      launches.gate_scale_backward.load(), launches.gate_scale_backward_z.load()};
  const auto there = train_alone(run, into("there"), pretend::device());
  EXPECT_GT(launches.nf4_dequantize.load(), before[0]);
  EXPECT_GT(launches.gate_scale_forward.load(), before[1]);
  EXPECT_GT(launches.gate_scale_backward.load(), before[2]);
  EXPECT_GT(launches.gate_scale_backward_z.load(), before[3]);
  const auto here = train_alone(run, into("here"));
  ASSERT_EQ(there.report.steps, kSteps);
  expect_same_figures("there", "here", kTolerance);
  EXPECT_LE(distance(*there.model, *here.model), kTolerance);
}

/// Layer norms, learned positions, and slices of NF4 that begin inside a block.
TEST_F(OnDeviceTest, a_gpt2_trains_as_on_the_cpu) {
  model::write_tiny_gpt2(folder_);
  auto run = config();
  run.set("adapter.main.sites", "all");
  run.set("rank.main.budget", "384");  // of its 2 x 6 x 64 directions
  const auto there = train_alone(run, into("there"), pretend::device());
  const auto here = train_alone(run, into("here"));
  EXPECT_LE(distance(*there.model, *here.model), kTolerance);
  for (const auto& [step, ce] : figures("here", "train/ce")) {
    EXPECT_NEAR(figures("there", "train/ce").at(step), ce, kTolerance * ce) << step;
  }
}

/// A row stands once per expert; the gates of its documents mix the copies above the top block.
TEST_F(OnDeviceTest, mixed_logits_train_as_on_the_cpu) {
  auto run = config();
  run.set("router.main.mix", "logits");
  run.set("router.main.kind", "topk_literal");
  run.set("router.main.scope", "first_token");
  const auto there = train_alone(run, into("there"), pretend::device());
  const auto here = train_alone(run, into("here"));
  EXPECT_LE(distance(*there.model, *here.model), kTolerance);
  for (const auto& [step, ce] : figures("here", "train/ce")) {
    EXPECT_NEAR(figures("there", "train/ce").at(step), ce, kTolerance * ce) << step;
  }
}

/// Reads of what decides which directions stay: gate, probability, |A|, and |B| of every site.
std::int64_t reads_of_a_cut(const model::Transformer& model) {
  std::int64_t reads = 0;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      reads += 3 + static_cast<std::int64_t>(group.sites.size());
    }
  }
  return reads;
}

TEST_F(OnDeviceTest, the_host_waits_only_with_the_collectives_and_after_the_step) {
  WatchedWorld world;
  const auto trained = train(config(), into("watched"), world, pretend::device());
  const auto cut_reads = reads_of_a_cut(*trained.model);
  std::int64_t statistics = 0;
  for (const auto& block : trained.model->blocks()) statistics += block.statistics_size();
  std::vector<std::string> expected;
  std::vector<std::int64_t> step_of;
  for (std::int64_t s = 0; s < kSteps; ++s) {
    if (s == kCutBefore) expected.insert(expected.end(), {"cut", "cut"});
    expected.insert(expected.end(), {"C0", "C1", "C2/layer/1", "C2/layer/0", "C3", "C3"});
    step_of.resize(expected.size(), s);
  }
  const auto rows = config().train.micro_batches;
  const auto& moments = world.moments();
  std::size_t first = 0;  // start-up has collectives of its own, saving too
  while (first < moments.size() && moments[first].tag != "C0") ++first;
  ASSERT_LE(first + expected.size(), moments.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& tag = moments[first + i].tag;
    ASSERT_EQ(tag, expected[i]);
    if (i == 0) continue;
    const auto step = step_of[i];
    const auto crossed = moments[first + i].traffic - moments[first + i - 1].traffic;
    const auto where = base::text("step ", step + 1, ", before ", tag);
    if (tag == "cut") {  // the loss of each row; then what decides which directions stay
      const bool first_cut = expected[i - 1] != "cut";
      EXPECT_EQ(crossed.host_reads, rows) << where;
      EXPECT_EQ(crossed.to_host, first_cut ? 0 : cut_reads) << where;
      continue;
    }
    EXPECT_EQ(crossed.host_reads, 0) << where;
    if (tag == "C1") {  // all routers' statistics
      EXPECT_EQ(crossed.to_host, 1) << where;
      EXPECT_EQ(crossed.to_host_bytes, 8 * statistics) << where;
    } else if (tag == "C3" && expected[i - 1] != "C3") {  // cross-entropy, gradient norm, ranks
      EXPECT_EQ(crossed.to_host, 1) << where;
      EXPECT_EQ(crossed.to_host_bytes, 8 * (2 + kRankFigures)) << where;
    } else {
      EXPECT_EQ(crossed.to_host, 0) << where;
    }
  }
}

/// Gates of head dimensions, some of them cut: their places lie there before the pass.
TEST_F(OnDeviceTest, a_pass_over_cut_dimensions_copies_nothing_to_the_device) {
  const auto plan = tests::attention_gates("softmax", "hard_concrete");
  const auto base = model::tiny_base({}, at::kDouble);
  model::Transformer here(base);
  model::Transformer there(model::on_device(*base, pretend::device()));
  for (auto* model : {&here, &there}) {
    model->adapt(plan, 3);
    auto cut = plan;
    cut.rank_gates["dimensions"].budget = 20;  // of 40
    EXPECT_EQ(RankBudget(cut, 10, RankOwner::dimensions).cut(*model, *LoneTransport(*model)).after,
              20);
  }
  const at::NoGradGuard no_grad;
  const auto row = model::tiny_row({5, 4});
  const auto rows = there.pack(row);
  const auto before = pretend::traffic();
  const auto x_TD = there.hidden(rows);
  const auto crossed = pretend::traffic() - before;
  EXPECT_EQ(crossed.to_device, 0);
  EXPECT_EQ(crossed.to_host + crossed.host_reads, 0);
  EXPECT_LE(tests::distance(x_TD.to(at::kCPU), here.hidden(here.pack(row))), 1e-12);
}

TEST_F(OnDeviceTest, choices_forgetting_and_other_gates_are_those_of_the_cpu) {
  const auto there = train_alone(config(), into("there"), pretend::device());
  const auto here = train_alone(config(), into("here"));
  EvaluationRequest request;
  request.plain = true;
  request.choices = data::read_choices(
      {"t", write("c.jsonl", R"({"prompt": "xyz", "choices": ["ab", "k", "the"], "answer": 1})")},
      0);
  request.forgetting = write("f.txt", "xyzuvwmqkxyz");
  for (const char* gates : {"soft", "topk", "top1", "mean", "expert:1"}) {
    request.gates = gates::Override::parse(gates);
    const auto read = reader(config_);
    const auto a = evaluate_all(*there.model, tokenizer(), read, request);
    const auto b = evaluate_all(*here.model, tokenizer(), read, request);
    for (const std::size_t c : {0, 1, 2}) {
      EXPECT_NEAR(a.scored[0].log_likelihood[c], b.scored[0].log_likelihood[c], 1e-7) << gates;
    }
    EXPECT_NEAR(a.forgetting->perplexity / b.forgetting->perplexity, 1, 1e-7) << gates;
    EXPECT_NEAR(a.forgetting->base_perplexity / b.forgetting->base_perplexity, 1, 1e-9) << gates;
  }
}

TEST_F(OnDeviceTest, a_run_resumes_bit_for_bit_before_the_cut) {
  const auto run = config();
  const auto straight = train_alone(run, into("straight"), pretend::device());
  (void)train_alone(run, into("halved", kCutBefore), pretend::device());
  const auto resumed = train_alone(run, into("halved"), pretend::device());
  EXPECT_EQ(resumed.report.steps, kSteps);
  EXPECT_EQ(resumed.report.parameters_hash, straight.report.parameters_hash);
}

TEST_F(OnDeviceTest, gradients_of_two_processes_meet_in_host_memory) {
  auto run = config();
  run.set("train.optimizer", "sgd");  // AdamW turns a gradient of rounding errors into a full step
  const auto one = train_alone(run, into("one"), pretend::device());
  std::unique_ptr<model::Transformer> two;
  comm::run_local(2, [&](comm::Communicator& comm) {
    auto trained = train(run, into("two"), comm, pretend::device());
    if (comm.process() == 1) two = std::move(trained.model);
  });
  EXPECT_LE(distance(*two, *one.model), kTolerance);
}

}  // namespace
}  // namespace dfmoa::train
