// What a step is predicted to take is what is allocated for it.
#include "distributed/memory_model.h"

#include "src/model/adapt.h"
#include "src/train/state.h"
#include "src/train/step.h"
#include "src/train/step_cost.h"
#include "tests/distributed/parallel_run.h"
#include "tests/support/counting_allocator.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::distributed {
namespace {

constexpr std::int64_t kTokens = 400;

std::shared_ptr<const model::BaseModel> wide_base() {
  model::TinyShape shape;
  shape.hidden = 128;
  shape.intermediate = 320;
  shape.layers = 4;
  shape.max_positions = 512;
  return model::tiny_base(shape, at::kFloat);
}

train::RunConfig wide_run(const Layout& layout) {
  train::RunConfig run;
  run.plan = tests::experts_behind("softmax");
  run.plan.adapters["mix"].rank = 4;
  run.set("parallel.expert", std::to_string(layout.expert));
  run.set("parallel.transport", layout.transport);
  run.set("parallel.gather", layout.gather);
  run.set("train.memory", layout.memory);
  run.set("train.tokens", std::to_string(kTokens));
  run.set("train.micro_batches", std::to_string(layout.processes));
  return run;
}

std::map<std::string, std::int64_t> predicted_parts(const train::RunConfig& run,
                                                    const model::BaseModel& base, int processes) {
  const auto blocks =
      plan_layout(model::plan_blocks(run.plan, base), base.architecture, run.parallel);
  std::map<std::string, std::int64_t> parts;
  for (const auto& [part, bytes] : train::cost_of(run, base, blocks, processes, false).memory) {
    parts[part] = bytes;
  }
  return parts;
}

void one_step(const train::RunConfig& run, model::Transformer& model, ExpertTransport& transport) {
  auto entropy = train::make_entropy(model);
  const bool keeps = run.train.memory == "keep";
  train::Step step(model, entropy, transport, {keeps, run.train.statistics == "lag_one"});
  std::vector<data::PackedRow> rows;
  for (std::int64_t m = 0; m < run.train.micro_batches; ++m) {
    rows.push_back(model::tiny_row({kTokens}, static_cast<std::uint64_t>(m + 1)));
  }
  (void)step.run(rows, {1, 0}, {});
}

class Peak : public testing::TestWithParam<std::string> {};

TEST_P(Peak, of_a_step_is_adapters_activations_and_head) {
  const auto base = wide_base();
  const auto run = wide_run({1, 1, "replicate", GetParam()});
  auto parts = predicted_parts(run, *base, 1);
  const auto comm = comm::make_single();
  const tests::CountingAllocator memory;
  model::Transformer model(base);
  ExpertTransport transport(model, *comm, run.parallel, run.train.memory == "keep");
  transport.adapt(run.plan, 1);
  const auto held = memory.live_bytes();
  EXPECT_NEAR(static_cast<double>(held), static_cast<double>(parts["adapters"]),
              0.01 * static_cast<double>(held));
  one_step(run, model, transport);
  const auto expected = parts["adapters"] + parts["activations"] + parts["head"];
  // The head's chunk and the deepest block's work are not alive at once; small tensors are left
  // out. A part that is forgotten is a quarter of the whole at least.
  EXPECT_NEAR(static_cast<double>(memory.peak_bytes()), static_cast<double>(expected),
              0.15 * static_cast<double>(expected));
}

INSTANTIATE_TEST_SUITE_P(Forms, Peak, testing::Values("keep", "recompute"),
                         [](const auto& one) { return one.param; });

const std::vector<Layout>& gathering() {
  static const std::vector<Layout> all{{2, 2, "move_weights"},
                                       {2, 2, "move_weights", "recompute"},
                                       {2, 2, "move_weights", "recompute", "step"},
                                       {3, 3, "move_weights"},
                                       {4, 2, "move_weights", "recompute"}};
  return all;
}

class Buffers : public testing::TestWithParam<std::size_t> {};

TEST_P(Buffers, of_gathered_experts_stay_allocated_as_predicted) {
  const auto base = wide_base();
  const auto& layout = gathering()[GetParam()];
  const auto run = wide_run(layout);
  auto parts = predicted_parts(run, *base, layout.processes);
  const auto blocks =
      plan_layout(model::plan_blocks(run.plan, *base), base->architecture, run.parallel);
  const auto spread = spread_of(run.parallel, layout.processes, layout.memory == "keep");
  // What is received is let go when it was added, and so are sums.
  std::int64_t travelling = 0;
  for (const auto& block : blocks) {
    travelling = std::max(travelling, layer_rows(block, spread, 0, base::DType::f32).travelling);
  }
  const auto passing = travelling * spread.expert;
  std::int64_t grown = 0;
  {
    const tests::CountingAllocator memory;
    comm::run_local(layout.processes, [&](comm::Communicator& comm) {
      model::Transformer model(base);
      ExpertTransport transport(model, comm, run.parallel, layout.memory == "keep");
      transport.adapt(run.plan, 1);
      comm.barrier("adapted");
      const auto before = memory.live_bytes();
      comm.barrier("before");
      one_step(run, model, transport);
      comm.barrier("stepped");
      if (comm.process() == 0) grown = memory.live_bytes() - before;
      comm.barrier("after");
    });
  }
  EXPECT_EQ(grown, layout.processes * (parts["lent"] + parts["messages"] - passing * 4));
}

INSTANTIATE_TEST_SUITE_P(Layouts, Buffers, testing::Range(std::size_t{0}, gathering().size()),
                         [](const auto& one) { return gathering()[one.param].name(); });

TEST(MemoryModel, counts_what_the_fullest_process_owns) {
  const auto base = wide_base();
  // Of three experts in four layers, owners take turns: five of the twelve go to one process.
  const auto run = wide_run({2, 2, "move_weights"});
  const auto blocks =
      plan_layout(model::plan_blocks(run.plan, *base), base->architecture, run.parallel);
  const auto spread = spread_of(run.parallel, 2, true);
  const auto place = heaviest_place(blocks, spread);
  const auto held = [&](int at) {
    std::int64_t flat = 0;
    for (const auto& block : blocks) flat += layer_rows(block, spread, at, base::DType::f32).flat;
    return flat;
  };
  EXPECT_GE(held(place), held(1 - place));
  EXPECT_EQ(predicted_parts(run, *base, 2)["adapters"], 4 * 4 * held(place));
  auto uneven = run;
  uneven.set("parallel.owners", "1,1,1");
  const auto all_at_one =
      plan_layout(model::plan_blocks(run.plan, *base), base->architecture, uneven.parallel);
  EXPECT_EQ(heaviest_place(all_at_one, spread), 1);
}

TEST(MemoryModel, receives_sums_where_every_process_holds_all) {
  const auto base = wide_base();
  const auto alone = predicted_parts(wide_run({1, 1, "replicate"}), *base, 1);
  auto two = predicted_parts(wide_run({2, 1, "replicate"}), *base, 2);
  EXPECT_EQ(alone.at("sums"), 0);
  EXPECT_EQ(two["sums"], two["adapters"] / 4) << "four blocks, four sums";
  EXPECT_EQ(two["messages"], 0);
}

/// Of many blocks no more than four gradients are under way, each in its message and received.
TEST(MemoryModel, a_few_sums_are_under_way_at_once) {
  model::TinyShape shape;
  shape.layers = 12;
  const auto base = model::tiny_base(shape, at::kFloat);
  auto two = predicted_parts(wide_run({2, 1, "replicate"}), *base, 2);
  EXPECT_EQ(two["sums"], two["adapters"] / 4 / 3);
  const auto run = wide_run({4, 2, "move_weights"});
  const auto blocks =
      plan_layout(model::plan_blocks(run.plan, *base), base->architecture, run.parallel);
  const auto spread = spread_of(run.parallel, 4, true);
  const auto rows = layer_rows(blocks[1], spread, heaviest_place(blocks, spread), base::DType::f32);
  auto four = predicted_parts(run, *base, 4);
  EXPECT_EQ(four["sums"], 2 * 2 * (rows.owned + rows.shared) * 4) << "of two blocks";
}

TEST(MemoryModel, keeps_the_tokens_that_came_from_others) {
  const auto base = wide_base();
  auto weights = predicted_parts(wide_run({2, 2, "move_weights"}), *base, 2);
  auto tokens = predicted_parts(wide_run({2, 2, "move_tokens"}), *base, 2);
  // Dense gates: all tokens of both, in every linear's input, with three gates.
  const std::int64_t arrived = 2 * (128 + 128 + 128 + 320 + 4 * 3);
  EXPECT_EQ(tokens["activations"] - weights["activations"], 4 * kTokens * 4 * arrived);
}

TEST(MemoryModel, counts_products_of_frozen_and_trained_weights) {
  const auto base = wide_base();
  auto run = wide_run({2, 1, "replicate"});
  const auto blocks =
      plan_layout(model::plan_blocks(run.plan, *base), base->architecture, run.parallel);
  const auto flops = [&](const std::string& memory, std::int64_t micro_batches) {
    run.set("train.memory", memory);
    run.set("train.micro_batches", std::to_string(micro_batches));
    return train::cost_of(run, *base, blocks, 2, false).flops;
  };
  const double linears = 4 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 320);
  double adapters = 0;
  for (const auto& block : blocks) {
    for (const auto& spec : model::parameter_specs(block.whole, block.shape)) {
      adapters += static_cast<double>(base::count_of(spec.shape));
    }
  }
  const double attention = 2.0 * 400 * 128 * 4;
  const double head = 4.0 * 273 * 128;
  const double forward = 2 * linears + 2 * adapters + attention;
  const double backward = 2 * linears + 4 * adapters + 2.5 * attention;
  EXPECT_DOUBLE_EQ(flops("keep", 2), 400 * (forward + backward + head));
  EXPECT_DOUBLE_EQ(flops("recompute", 2), 400 * (2 * forward + backward + head));
  // Two micro-batches a process: statistics are counted in a forward of their own.
  EXPECT_DOUBLE_EQ(flops("keep", 4), 400 * (2 * 2 * forward + 2 * backward + 2 * head));
}

TEST(MemoryModel, takes_the_link_that_a_group_needs) {
  const Machine machine{{1, 10}, {0.1, 100}, 8, 1};
  Traffic traffic{"C2/gather", Group::experts, 1, 0, 1000, 7};
  const Spread in_node{16, 8, Transport::move_weights};
  EXPECT_DOUBLE_EQ(seconds_of(traffic, in_node, machine), 0.7 + 10);
  EXPECT_DOUBLE_EQ(seconds_of(traffic, {16, 16, Transport::move_weights}, machine), 7 + 100);
  // Six of twelve: the second group of a copy lies on two nodes.
  EXPECT_DOUBLE_EQ(seconds_of(traffic, {12, 6, Transport::move_weights}, machine), 7 + 100);
  traffic.group = Group::copies;
  EXPECT_DOUBLE_EQ(seconds_of(traffic, in_node, machine), 7 + 100);
  EXPECT_DOUBLE_EQ(seconds_of(traffic, {8, 4, Transport::move_weights}, machine), 0.7 + 10);
  EXPECT_DOUBLE_EQ(seconds_of_step({traffic, traffic}, 3, in_node, machine), 3 + 2 * 107);
}

}  // namespace
}  // namespace dfmoa::distributed
