// What a forward leaves behind for its backward, byte by byte.
#include <gtest/gtest.h>

#include "src/adapters/mixture_linear.h"
#include "src/model/block.h"
#include "tests/support/counting_allocator.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

/// Index tensors and saved scalars: a few hundred bytes beside the megabytes of activations.
constexpr double kShare = 0.02;

struct LinearForm {
  std::string name;
  std::vector<std::int64_t> out_features;  ///< of the sites that share the input
  bool nf4 = false;
  at::ScalarType dtype = at::kFloat;
};

class MixtureLinearMemory : public testing::TestWithParam<LinearForm> {
 protected:
  static constexpr std::int64_t kTokens = 200, kIn = 128, kExperts = 4, kRank = 4;

  static std::shared_ptr<const adapters::BaseLinear> base(std::int64_t out_features) {
    const auto& form = GetParam();
    if (!form.nf4) {
      return adapters::dense_linear(tests::normal({out_features, kIn}, 1).to(form.dtype), {});
    }
    const auto blocks = out_features * kIn / 64;
    return adapters::nf4_linear(at::full({blocks * 32}, 0x1f, at::kByte),
                                at::ones({blocks}, at::kFloat), 64, out_features, kIn, {});
  }

  /// Weights, b and everything that a block owns.
  static std::vector<adapters::MixtureSite> sites() {
    std::vector<adapters::MixtureSite> all;
    for (const auto out_features : GetParam().out_features) {
      const auto first = static_cast<std::int64_t>(all.size()) * kExperts * kRank;
      const auto b_NF = tests::normal({kExperts * kRank, out_features}, 2).to(GetParam().dtype);
      all.push_back({base(out_features), b_NF.clone().requires_grad_(), first, 0.5});
    }
    return all;
  }
};

TEST_P(MixtureLinearMemory, saves_its_input_once_h_and_the_gates) {
  const auto dtype = GetParam().dtype;
  const auto linears = sites();
  const auto directions = static_cast<std::int64_t>(linears.size()) * kExperts * kRank;
  adapters::MixtureGroup group;
  group.a_ND = tests::normal({directions, kIn}, 3).to(dtype).requires_grad_();
  group.column_N = (at::arange(directions).div(kRank, "floor") % kExperts).to(at::kInt);
  group.row_begin = tests::ints({0, static_cast<std::int32_t>(kTokens)});
  const tests::CountingAllocator memory;
  auto x_TD = at::ones({kTokens, kIn}, dtype).requires_grad_();
  group.gate_TG = at::full({kTokens, kExperts}, 0.25, dtype).requires_grad_();
  auto y = adapters::mixture_linear(x_TD, group, linears);
  std::int64_t outputs = 0;
  for (const auto& y_TF : y) outputs += static_cast<std::int64_t>(y_TF.nbytes());
  const auto width = static_cast<std::int64_t>(c10::elementSize(dtype));
  const auto expected = kTokens * (kIn + directions + kExperts) * width;
  x_TD = at::Tensor();  // whatever is still alive belongs to the graph
  group.gate_TG = at::Tensor();
  EXPECT_NEAR(static_cast<double>(memory.live_bytes() - outputs), static_cast<double>(expected),
              kShare * static_cast<double>(expected));
  y.clear();
  EXPECT_EQ(memory.live_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Forms, MixtureLinearMemory,
                         testing::Values(LinearForm{"one_site", {96}},
                                         LinearForm{"three_sites_share_their_input", {128, 64, 64}},
                                         LinearForm{"two_sites_nf4", {320, 320}, true},
                                         LinearForm{"one_site_fp64", {96}, false, at::kDouble}),
                         [](const auto& form) { return form.param.name; });

struct BlockForm {
  std::string name;
  std::int64_t kv_heads;
  std::vector<std::int64_t> lengths;  ///< of the documents
};

class BlockMemory : public testing::TestWithParam<BlockForm> {
 protected:
  static TinyShape shape() {
    TinyShape tiny;
    tiny.max_positions = 512;
    tiny.hidden = 64;
    tiny.intermediate = 160;
    tiny.layers = 1;
    tiny.kv_heads = GetParam().kv_heads;
    return tiny;
  }

  static Transformer mixture() {
    Transformer model(tiny_base(shape(), at::kFloat));
    auto plan = tiny_plan("token", 4);
    plan.rank_gates["gate"] = {};
    plan.adapters["mix"].rank_gate = "gate";
    model.adapt(plan, 3);
    stir(model);
    return model;
  }

  /// Bytes that a forward of the block adds, beside its input.
  static std::int64_t added_by_forward(const Transformer& model, bool keep) {
    const auto rows = model.pack(tiny_row(GetParam().lengths));
    const auto x_TD = model.embed(rows).requires_grad_();
    const tests::CountingAllocator memory;
    const at::AutoGradMode grad_mode(keep);
    const auto out = model.blocks()[0].forward(x_TD, {rows, {5, 3, RankPhase::noisy}});
    return memory.live_bytes();
  }

  static std::int64_t tokens() {
    std::int64_t total = 0;
    for (const auto length : GetParam().lengths) total += length;
    return total;
  }
};

TEST_P(BlockMemory, keeps_what_backward_reads_and_nothing_else) {
  const auto model = mixture();
  const auto tiny = shape();
  const auto kv = tiny.hidden / tiny.heads * tiny.kv_heads;
  std::int64_t directions = 0;  // of all seven sites
  for (const auto& group : model.blocks()[0].adapters().groups) directions += group.directions();
  const std::vector<std::pair<std::string, std::int64_t>> per_token{
      {"first norm: inverse deviation (its x is the block's input)", 1},
      {"x of the router and of q, k, v: the normed input", tiny.hidden},
      {"gates w = p", 4},
      {"h of all groups", directions},
      {"attention: q and k after rotation, v", tiny.hidden + 2 * kv},
      {"attention: logsumexp", tiny.heads},
      {"x of o: the output of attention", tiny.hidden},
      {"second norm: its x, the stream after attention", tiny.hidden},
      {"second norm: inverse deviation", 1},
      {"x of gate, up: the normed stream", tiny.hidden},
      {"inputs of swiglu: gate, up", 2 * tiny.intermediate},
      {"x of down: the output of swiglu", tiny.intermediate},
      {"y, the next block's input", tiny.hidden}};
  std::int64_t expected = 0;
  for (const auto& [what, elements] : per_token) expected += elements * tokens() * 4;
  const auto added = added_by_forward(model, true);
  RecordProperty("added_bytes", std::to_string(added));
  RecordProperty("expected_bytes", std::to_string(expected));
  EXPECT_NEAR(static_cast<double>(added), static_cast<double>(expected),
              kShare * static_cast<double>(expected));
}

TEST_P(BlockMemory, without_a_graph_only_the_output_is_left) {
  const auto model = mixture();
  const auto y_bytes = tokens() * shape().hidden * 4;
  const auto added = added_by_forward(model, false);
  EXPECT_GE(added, y_bytes);
  EXPECT_LE(added, y_bytes + 256);  // the statistics vector
}

INSTANTIATE_TEST_SUITE_P(Rows, BlockMemory,
                         testing::Values(BlockForm{"one_document", 4, {240}},
                                         BlockForm{"grouped_heads", 2, {240}},
                                         BlockForm{"packed_documents", 4, {90, 1, 149}},
                                         BlockForm{"packed_grouped", 2, {90, 1, 149}}),
                         [](const auto& form) { return form.param.name; });

}  // namespace
}  // namespace dfmoa::model
