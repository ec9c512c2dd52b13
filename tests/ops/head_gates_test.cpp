#include "src/ops/head_gates.h"

#include <ATen/Parallel.h>

#include "src/base/error.h"
#include "tests/support/counting_allocator.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::contains;
using tests::distance;
using tests::ints;
using tests::normal;

/// Where rows of z change: nowhere, between documents, or at every token.
enum class RowsOfZ { one, documents, tokens };

struct HeadShape {
  std::string name;
  std::int64_t tokens, heads, channels;
  RowsOfZ rows = RowsOfZ::one;

  friend void PrintTo(const HeadShape& shape, std::ostream* out) { *out << shape.name; }
};

/// One call with every gate.
struct Heads {
  explicit Heads(const HeadShape& shape, at::ScalarType type = at::kDouble) {
    const auto leaf = [&](at::IntArrayRef sizes, std::uint64_t seed) {
      return normal(sizes, seed).to(type).requires_grad_();
    };
    const auto t_T = at::arange(shape.tokens, at::kInt);
    if (shape.rows == RowsOfZ::documents) row_T = at::bitwise_right_shift(t_T, 1).clamp_max_(2);
    if (shape.rows == RowsOfZ::tokens) row_T = at::remainder(t_T, 3);
    x = leaf({shape.tokens, shape.heads, shape.channels}, 1);
    z = leaf({row_T.defined() ? 3 : 1, shape.heads, shape.channels}, 2);
    gate = leaf({shape.tokens, shape.heads}, 3);
    dy = normal(x.sizes(), 4).to(type);
  }
  at::Tensor x, z, row_T, gate, dy;
};

class HeadGatesForms : public testing::TestWithParam<HeadShape> {};

TEST_P(HeadGatesForms, equals_the_plain_twin_with_its_gradients) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const Heads in(GetParam(), type);
    const double width = type == at::kDouble ? 1e-14 : 5e-6;  // sums in another order
    for (const bool masked : {true, false}) {
      for (const bool gated : {true, false}) {
        const auto z = masked ? in.z : at::Tensor();
        const auto gate = gated ? in.gate : at::Tensor();
        const auto y = head_gates(in.x, z, in.row_T, gate);
        const auto plain = head_gates_plain(in.x, z, in.row_T, gate);
        EXPECT_EQ(distance(y, plain), 0);
        EXPECT_EQ(y.scalar_type(), type);
        std::vector<at::Tensor> leaves{in.x};
        if (masked) leaves.push_back(z);
        if (gated) leaves.push_back(gate);
        if (leaves.size() == 1) continue;
        const auto grads = tests::gradients({y}, {in.dy}, leaves);
        const auto expected = tests::gradients({plain}, {in.dy}, leaves);
        for (std::size_t i = 0; i < leaves.size(); ++i) {
          const auto scale =
              expected[i].numel() == 0 ? 1 : std::max(1.0, expected[i].abs().max().item<double>());
          EXPECT_LE(distance(grads[i], expected[i]), width * scale) << i;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, HeadGatesForms,
    testing::Values(HeadShape{"one_row", 130, 3, 8},  //
                    HeadShape{"documents", 9, 3, 16, RowsOfZ::documents},
                    HeadShape{"a_document_longer_than_a_panel", 200, 2, 4, RowsOfZ::documents},
                    HeadShape{"rows_in_any_order", 70, 3, 8, RowsOfZ::tokens},
                    HeadShape{"odd_channels", 7, 5, 45}, HeadShape{"one_head", 65, 1, 19},
                    HeadShape{"one_channel", 5, 4, 1}, HeadShape{"one_token", 1, 9, 64},
                    HeadShape{"no_token", 0, 3, 8},
                    HeadShape{"no_token_of_documents", 0, 3, 8, RowsOfZ::documents}),
    [](const auto& form) { return form.param.name; });

TEST(HeadGatesOp, gradients_are_the_slopes) {
  for (const auto rows : {RowsOfZ::one, RowsOfZ::documents}) {
    const Heads in({"", 7, 2, 5, rows});
    const auto f = [&] {
      return (head_gates(in.x, in.z, in.row_T, in.gate) * in.dy).sum().item<double>();
    };
    const auto y = head_gates(in.x, in.z, in.row_T, in.gate);
    const auto grads = tests::gradients({y}, {in.dy}, {in.x, in.z, in.gate});
    std::size_t i = 0;
    for (const auto& leaf : {in.x, in.z, in.gate}) {
      EXPECT_LE(distance(grads[i], tests::central_differences(f, leaf)), 1e-9) << i;
      ++i;
    }
  }
}

/// Enough work for two threads, and rows that end inside a panel.
TEST(HeadGatesOp, the_bits_do_not_depend_on_the_number_of_threads) {
  const auto threads = at::get_num_threads();
  for (const auto rows : {RowsOfZ::one, RowsOfZ::documents}) {
    const Heads in({"", 997, 9, 45, rows}, at::kFloat);
    const auto results = [&](int count) {
      at::set_num_threads(count);
      const auto y = head_gates(in.x, in.z, in.row_T, in.gate);
      auto all = tests::gradients({y}, {in.dy}, {in.x, in.z, in.gate});
      all.push_back(y);
      return all;
    };
    const auto one = results(1);
    for (const int count : {2, 3}) {
      const auto more = results(count);
      for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], more[i])) << i;
    }
  }
  at::set_num_threads(threads);
}

TEST(HeadGatesOp, reads_slices_in_place_and_takes_gradients_of_any_layout) {
  const Heads in({"", 6, 3, 4});
  const auto wide = normal({6, 5, 4}, 5);
  const auto turned = normal({6, 4, 3}, 6).permute({0, 2, 1});
  for (const auto& x : {wide.narrow(1, 2, 3), turned}) {
    EXPECT_EQ(distance(head_gates(x, in.z, {}, in.gate), head_gates_plain(x, in.z, {}, in.gate)),
              0);
  }
  const auto every = at::ones({}, at::kDouble).expand({6, 3, 4});
  const auto dz = [&](const at::Tensor& y) { return tests::gradients({y}, {every}, {in.z})[0]; };
  EXPECT_LE(distance(dz(head_gates(in.x, in.z, {}, in.gate)),
                     dz(head_gates_plain(in.x, in.z, {}, {}) * in.gate.unsqueeze(2))),
            1e-14);
}

TEST(HeadGatesOp, only_what_asks_for_a_gradient_gets_one) {
  const Heads in({"", 6, 3, 4});
  const auto y = head_gates(in.x.detach(), in.z, {}, in.gate.detach());
  const auto expected = head_gates_plain(in.x.detach(), in.z, {}, in.gate.detach());
  const auto grads = tests::gradients({y}, {in.dy}, {in.x, in.z, in.gate});
  EXPECT_FALSE(grads[0].defined() || grads[2].defined());
  EXPECT_LE(distance(grads[1], tests::gradients({expected}, {in.dy}, {in.z})[0]), 1e-14);
}

TEST(HeadGatesOp, keeps_its_arguments_and_nothing_else) {
  const Heads in({"", 50, 3, 16, RowsOfZ::documents}, at::kFloat);
  const tests::CountingAllocator memory;
  auto y = head_gates(in.x, in.z, in.row_T, in.gate);
  EXPECT_EQ(memory.live_bytes(), static_cast<std::int64_t>(y.nbytes()));
  y = at::Tensor();
  EXPECT_EQ(memory.live_bytes(), 0);
}

TEST(HeadGatesOp, without_gates_its_argument_passes) {
  const Heads in({"", 6, 3, 4});
  EXPECT_TRUE(head_gates(in.x, {}, in.row_T, {}).is_same(in.x));
}

TEST(HeadGatesOp, other_types_run_the_plain_twin) {
  const Heads in({"", 6, 3, 4}, at::kBFloat16);
  const auto y = head_gates(in.x, in.z, {}, in.gate);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(distance(y, head_gates_plain(in.x, in.z, {}, in.gate)), 0);
  const auto grads = tests::gradients({y}, {in.dy}, {in.z});
  EXPECT_EQ(grads[0].sizes(), in.z.sizes());
}

TEST(HeadGatesRefusal, names_the_tensor_that_does_not_fit) {
  const Heads in({"", 6, 3, 4, RowsOfZ::documents});
  const auto said = [&](const at::Tensor& x, const at::Tensor& z, const at::Tensor& row_T,
                        const at::Tensor& gate) {
    return tests::refusal<base::ShapeError>([&] { (void)head_gates(x, z, row_T, gate); });
  };
  const auto expect = [](const std::string& sentence, std::string_view part) {
    EXPECT_TRUE(contains(sentence, part)) << sentence;
  };
  expect(said(in.x.view({6, 12}), in.z, in.row_T, in.gate),
         "head_gates: x is [6, 12] Double on cpu, expected (T, H, C)");
  expect(said(in.x, in.z.narrow(2, 0, 2), in.row_T, in.gate),
         "z is [3, 3, 2] Double on cpu, expected (Z, 3, 4) Double on cpu");
  expect(said(in.x, in.z.to(at::kFloat), in.row_T, in.gate), "z is [3, 3, 4] Float");
  expect(said(in.x, in.z.view({9, 4}), in.row_T, in.gate), "z is [9, 4]");
  expect(said(in.x, in.z, {}, in.gate), "z is [3, 3, 4] Double on cpu, expected one row");
  expect(said(in.x, in.z, in.row_T.narrow(0, 1, 5), in.gate), "row is [5] Int on cpu, expected (6");
  expect(said(in.x, in.z, in.row_T.to(at::kLong), in.gate), "row is [6] Long");
  expect(said(in.x, in.z, in.row_T, in.gate.narrow(1, 0, 2)),
         "gate is [6, 2] Double on cpu, expected (6, 3) Double on cpu");
  expect(said(in.x, {}, {}, in.gate.to(at::kFloat)), "gate is [6, 3] Float");
  expect(said(in.x, in.z, ints({0, 1, 2, 3, 0, 0}), in.gate),
         "token 3 reads row 3 of z, expected one of 3");
  expect(said(in.x, in.z, ints({0, 1, 2, 0, -1, 0}), in.gate), "token 4 reads row -1");
  const auto meta = in.gate.to(at::kMeta);
  expect(said(in.x, in.z, in.row_T, meta), "gate is [6, 3] Double on meta");
}

}  // namespace
}  // namespace dfmoa::ops
