#include "src/ops/gate_scale.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::distance;
using tests::ints;
using tests::normal;
using tests::normal_leaf;

constexpr double kGateScaleTolerance = 1e-13;

struct GateScaleForm {
  std::string name;
  bool gate, z, rows;
};

/// 9 tokens in documents of 4, 0 and 5; 7 directions of experts with ranks 2, 0, 4, 1. Column 1 is
/// nobody's, and column 0 belongs to another site.
struct GateScaleInput {
  explicit GateScaleInput(const GateScaleForm& form) {
    if (form.gate) gate_TG = normal_leaf({9, 5}, 2);
    if (form.z) z_ZN = normal_leaf({form.rows ? 3 : 1, 7}, 3);
    layout.column_N = ints({1, 1, 3, 3, 3, 3, 4});
    if (form.z && form.rows) layout.row_T = ints({0, 0, 0, 0, 2, 2, 2, 2, 2});
    layout.row_begin = form.rows ? ints({0, 4, 4, 9}) : ints({0, 9});
    layout.scale = -1.7;
  }
  [[nodiscard]] std::vector<at::Tensor> leaves() const {
    std::vector<at::Tensor> all{h_TN};
    if (gate_TG.defined()) all.push_back(gate_TG);
    if (z_ZN.defined()) all.push_back(z_ZN);
    return all;
  }
  at::Tensor h_TN = normal_leaf({9, 7}, 1);
  at::Tensor gate_TG, z_ZN;
  GateLayout layout;
};

class GateScaleOp : public testing::TestWithParam<GateScaleForm> {};

TEST_P(GateScaleOp, equals_its_plain_twin) {
  const GateScaleInput in(GetParam());
  const auto out = gate_scale(in.h_TN.detach(), in.gate_TG, in.z_ZN, in.layout);
  const auto plain = gate_scale_plain(in.h_TN, in.gate_TG, in.z_ZN, in.layout);
  EXPECT_LT(distance(out, plain), kGateScaleTolerance);
  EXPECT_TRUE(out.is_contiguous());
}

TEST_P(GateScaleOp, backward_is_autograd_of_the_plain_twin) {
  const GateScaleInput in(GetParam());
  const auto q_TN = normal({9, 7}, 4);
  const auto plain = gate_scale_plain(in.h_TN, in.gate_TG, in.z_ZN, in.layout);
  const auto expected = tests::gradients({plain}, {q_TN}, in.leaves());
  const auto grads = gate_scale_backward(q_TN, in.h_TN, in.gate_TG, in.z_ZN, in.layout);
  std::size_t next = 0;
  EXPECT_LT(distance(grads.dh_TN, expected[next++]), kGateScaleTolerance);
  EXPECT_EQ(grads.dgate_TG.defined(), GetParam().gate);
  EXPECT_EQ(grads.dz_ZN.defined(), GetParam().z);
  if (GetParam().gate) {
    EXPECT_LT(distance(grads.dgate_TG, expected[next++]), kGateScaleTolerance);
    EXPECT_EQ(grads.dgate_TG.select(1, 0).abs().max().item<double>(), 0);
  }
  if (GetParam().z) {
    EXPECT_LT(distance(grads.dz_ZN, expected[next]), kGateScaleTolerance);
  }
}

TEST_P(GateScaleOp, reads_rows_of_a_wider_matrix_in_place) {
  const GateScaleInput in(GetParam());
  const auto wide_TN = normal({9, 20}, 5);
  const auto wide_q_TN = normal({9, 20}, 6);
  const auto h_TN = wide_TN.narrow(1, 6, 7);
  const auto q_TN = wide_q_TN.narrow(1, 11, 7);
  EXPECT_LT(distance(gate_scale(h_TN, in.gate_TG, in.z_ZN, in.layout),
                     gate_scale_plain(h_TN, in.gate_TG, in.z_ZN, in.layout)),
            kGateScaleTolerance);
  const auto strided = gate_scale_backward(q_TN, h_TN, in.gate_TG, in.z_ZN, in.layout);
  const auto packed =
      gate_scale_backward(q_TN.contiguous(), h_TN.contiguous(), in.gate_TG, in.z_ZN, in.layout);
  EXPECT_EQ(distance(strided.dh_TN, packed.dh_TN), 0);
  EXPECT_EQ(distance(strided.dgate_TG, packed.dgate_TG), 0);
  EXPECT_EQ(distance(strided.dz_ZN, packed.dz_ZN), 0);
}

TEST_P(GateScaleOp, takes_zero_tokens) {
  GateScaleInput in(GetParam());
  const auto h_TN = at::empty({0, 7}, at::kDouble);
  const auto gate_TG = GetParam().gate ? at::empty({0, 5}, at::kDouble) : at::Tensor();
  if (in.layout.row_T.defined()) in.layout.row_T = at::empty({0}, at::kInt);
  in.layout.row_begin = at::zeros_like(in.layout.row_begin);
  EXPECT_EQ(gate_scale(h_TN, gate_TG, in.z_ZN, in.layout).sizes(), h_TN.sizes());
  const auto grads = gate_scale_backward(h_TN, h_TN, gate_TG, in.z_ZN, in.layout);
  EXPECT_EQ(grads.dh_TN.sizes(), h_TN.sizes());
  if (GetParam().z) {
    EXPECT_EQ(distance(grads.dz_ZN, at::zeros_like(in.z_ZN)), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, GateScaleOp,
                         testing::Values(GateScaleForm{"alone", false, false, false},
                                         GateScaleForm{"gate", true, false, false},
                                         GateScaleForm{"one_row", false, true, false},
                                         GateScaleForm{"rows", false, true, true},
                                         GateScaleForm{"gate_one_row", true, true, false},
                                         GateScaleForm{"gate_rows", true, true, true}),
                         [](const auto& form) { return form.param.name; });

TEST(GateScaleOpFloat, equals_the_fp64_form_within_fp32) {
  const GateScaleInput in({"", true, true, true});
  const auto out = gate_scale(in.h_TN.to(at::kFloat), in.gate_TG.to(at::kFloat),
                              in.z_ZN.to(at::kFloat), in.layout);
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  EXPECT_LT(distance(out, gate_scale_plain(in.h_TN, in.gate_TG, in.z_ZN, in.layout)), 1e-5);
}

/// More tokens than one task of the thread pool takes.
TEST(GateScaleOpTasks, cutting_over_threads_changes_nothing) {
  GateLayout layout{at::arange(64, at::kInt).div(8, "floor").to(at::kInt), at::Tensor(),
                    ints({0, 3000}), 0.5};
  const auto h_TN = normal({3000, 64}, 1);
  const auto gate_TG = normal({3000, 8}, 2);
  EXPECT_LT(distance(gate_scale(h_TN, gate_TG, at::Tensor(), layout),
                     gate_scale_plain(h_TN, gate_TG, at::Tensor(), layout)),
            kGateScaleTolerance);
}

void expect_gate_scale_refusal(std::string_view part, const std::function<void()>& call) {
  const auto sentence = tests::refusal<base::ShapeError>(call);
  EXPECT_TRUE(tests::contains(sentence, part)) << sentence;
}

TEST(GateScaleOpRefusal, names_the_tensor_that_does_not_fit) {
  const GateScaleInput in({"", true, true, true});
  const auto forward = [&](const at::Tensor& h, const at::Tensor& gate, const at::Tensor& z,
                           const GateLayout& layout) { (void)gate_scale(h, gate, z, layout); };
  const auto h = in.h_TN.detach();
  expect_gate_scale_refusal("h is [7, 9]", [&] { forward(h.t(), in.gate_TG, in.z_ZN, in.layout); });
  expect_gate_scale_refusal("gate is [8, 5], expected (9, G)",
                            [&] { forward(h, in.gate_TG.narrow(0, 0, 8), in.z_ZN, in.layout); });
  expect_gate_scale_refusal("z is [3, 6]",
                            [&] { forward(h, in.gate_TG, in.z_ZN.narrow(1, 0, 6), in.layout); });
  auto layout = in.layout;
  layout.column_N = layout.column_N.to(at::kLong);
  expect_gate_scale_refusal("column is [7]", [&] { forward(h, in.gate_TG, in.z_ZN, layout); });
  layout = in.layout;
  layout.row_T = layout.row_T.narrow(0, 0, 8);
  expect_gate_scale_refusal("row is [8]", [&] { forward(h, in.gate_TG, in.z_ZN, layout); });
}

TEST(GateScaleOpRefusal, backward_names_the_tensor_that_does_not_fit) {
  const GateScaleInput in({"", true, true, true});
  const auto q = normal({9, 7}, 4);
  expect_gate_scale_refusal("q is [9, 6]", [&] {
    (void)gate_scale_backward(q.narrow(1, 0, 6), in.h_TN, in.gate_TG, in.z_ZN, in.layout);
  });
  auto layout = in.layout;
  layout.row_begin = ints({0, 9});
  expect_gate_scale_refusal("row_begin is [2], expected (4)", [&] {
    (void)gate_scale_backward(q, in.h_TN, in.gate_TG, in.z_ZN, layout);
  });
}

}  // namespace
}  // namespace dfmoa::ops
