// What the CPU's entry points have of their own: ranges, results in place, checked arguments.
#include <cmath>

#include "src/base/error.h"
#include "tests/kernels/gate_scale_results.h"

using namespace dfmoa;
using namespace dfmoa::kernels;
using namespace dfmoa::kernels_test;

class GateScaleRanges : public FormTest {};
INSTANTIATE_TEST_SUITE_P(Forms, GateScaleRanges, testing::ValuesIn(cpu_forms()), form_name);

TEST_P(GateScaleRanges, results_may_overwrite_their_input) {
  GateScaleCase<float> p(gate_scale_sizes()[1]);
  const Results<float> apart = run(GetParam(), p);
  gate_scale_backward(p.shape(), p.inputs(), p.q_rows(), 0, p.tokens, {p.q.data(), p.stride},
                      static_cast<float*>(nullptr), GetParam().level);
  gate_scale_forward(p.shape(), p.inputs(), 0, p.tokens, {p.h.data(), p.stride}, GetParam().level);
  for (std::size_t i = 0; i < p.h.size(); ++i) {
    if (std::isnan(apart.out[i])) continue;
    ASSERT_EQ(p.h[i], apart.out[i]);
    ASSERT_EQ(p.q[i], apart.dh[i]);
  }
}

TEST_P(GateScaleRanges, every_split_gives_the_same_bits) {
  const GateScaleCase<float> p(gate_scale_sizes()[1]);
  const Results<float> split = run(GetParam(), p);
  std::vector<float> dw(p.w.size());
  std::vector<float> dz(p.z.size());
  std::vector<float> dh(p.h.size());
  gate_scale_backward(p.shape(), p.inputs(), p.q_rows(), 0, p.tokens, {dh.data(), p.stride},
                      dw.data(), GetParam().level);
  gate_scale_backward_z(p.shape(), p.inputs(), p.q_rows(), p.document_begin.data(), 0, p.rows,
                        dz.data(), GetParam().level);
  EXPECT_EQ(dw, split.dw);
  EXPECT_EQ(dz, split.dz);
}

TEST_P(GateScaleRanges, wrong_arguments_are_shape_errors) {
  GateScaleCase<float> p(gate_scale_sizes()[0]);
  const CpuLevel level = GetParam().level;
  std::vector<float> out(p.h.size());
  const auto forward = [&](std::int64_t begin, std::int64_t end, std::int64_t stride) {
    gate_scale_forward(p.shape(), p.inputs(), begin, end, {out.data(), stride}, level);
  };
  EXPECT_THROW(forward(0, p.tokens + 1, p.stride), base::ShapeError);
  EXPECT_THROW(forward(-1, 1, p.stride), base::ShapeError);
  EXPECT_THROW(forward(2, 1, p.stride), base::ShapeError);
  EXPECT_THROW(forward(0, 1, p.directions - 1), base::ShapeError);
  EXPECT_THROW(gate_scale_backward(p.shape(), p.inputs(), {p.q.data(), 1}, 0, 1,
                                   {out.data(), p.stride}, static_cast<float*>(nullptr), level),
               base::ShapeError);
  p.document_begin[1] = static_cast<std::int32_t>(p.tokens) + 1;
  EXPECT_THROW(gate_scale_backward_z(p.shape(), p.inputs(), p.q_rows(), p.document_begin.data(), 0,
                                     1, out.data(), level),
               base::ShapeError);
  p.expert_of_direction[0] = 1;  // falls back to 0 at direction 1
  EXPECT_THROW(forward(0, 1, p.stride), base::ShapeError);
  p.expert_of_direction.assign(p.expert_of_direction.size(), 8);
  EXPECT_THROW(forward(0, 1, p.stride), base::ShapeError);
}
