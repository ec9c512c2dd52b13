#include "kernels/gate_scale.h"

#include <cmath>
#include <limits>

#include "src/base/error.h"
#include "tests/kernels/forms.h"
#include "tests/kernels/gate_scale_case.h"

using namespace dfmoa;
using namespace dfmoa::kernels;
using namespace dfmoa::kernels_test;

namespace {

template <class Real>
struct Results {
  std::vector<Real> out, dh, dw, dz;
};

/// Buffers start as NaN: an element that is not written shows.
template <class Real>
Results<Real> unwritten(const GateScaleCase<Real>& p) {
  const Real nan = std::numeric_limits<Real>::quiet_NaN();
  return {std::vector<Real>(p.h.size(), nan), std::vector<Real>(p.h.size(), nan),
          std::vector<Real>(p.w.size(), nan), std::vector<Real>(p.z.size(), nan)};
}

template <class Real>
Results<Real> run_emulated(const GateScaleCase<Real>& p) {
  Results<Real> r = unwritten(p);
  emulated::gate_scale_forward(p.shape(), p.inputs(), {r.out.data(), p.stride}, {});
  emulated::gate_scale_backward(p.shape(), p.inputs(), p.q_rows(), {r.dh.data(), p.stride},
                                r.dw.data(), {});
  const std::int64_t pieces = emulated::gate_scale_z_pieces(p.tokens, p.rows);
  std::vector<Real> partial(static_cast<std::size_t>(p.rows * pieces * p.directions),
                            std::numeric_limits<Real>::quiet_NaN());
  emulated::gate_scale_backward_z(p.shape(), p.inputs(), p.q_rows(), p.document_begin.data(),
                                  p.rows, partial.data(), r.dz.data(), {});
  return r;
}

/// All results by one form; on the CPU in two ranges, so that offsets are exercised.
template <class Real>
Results<Real> run(const Form& form, const GateScaleCase<Real>& p) {
  if (form.emulated) return run_emulated(p);
  Results<Real> r = unwritten(p);
  const StridedRows<Real> out{r.out.data(), p.stride};
  const StridedRows<Real> dh{r.dh.data(), p.stride};
  const std::int64_t cut = p.tokens / 3;
  for (const auto& [begin, end] : {std::pair{cut, p.tokens}, std::pair{std::int64_t{0}, cut}}) {
    gate_scale_forward(p.shape(), p.inputs(), begin, end, out, form.level);
    gate_scale_backward(p.shape(), p.inputs(), p.q_rows(), begin, end, dh, r.dw.data(), form.level);
  }
  const std::int64_t half = p.rows / 2;
  for (const auto& [begin, end] : {std::pair{half, p.rows}, std::pair{std::int64_t{0}, half}}) {
    gate_scale_backward_z(p.shape(), p.inputs(), p.q_rows(), p.document_begin.data(), begin, end,
                          r.dz.data(), form.level);
  }
  return r;
}

/// `values` (rows, columns) at `stride` equal `expected` within `tolerance` of `size`; what lies
/// between the rows was left alone.
template <class Real>
void expect_rows(const char* name, const std::vector<Real>& values, std::int64_t stride,
                 const std::vector<double>& expected, std::int64_t columns,
                 const std::vector<double>& size, double tolerance) {
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(values.size()); ++i) {
    const double value = static_cast<double>(values[static_cast<std::size_t>(i)]);
    const std::int64_t column = i % stride;
    if (column >= columns) {
      ASSERT_TRUE(std::isnan(value)) << name << ": wrote between rows at " << i;
      continue;
    }
    const auto at = static_cast<std::size_t>(i / stride * columns + column);
    ASSERT_LE(std::fabs(value - expected[at]), tolerance * std::fabs(size[at]))
        << name << "(" << i / stride << ", " << column << ") is " << value << ", expected "
        << expected[at];
  }
}

}  // namespace

class GateScale : public FormTest {
 protected:
  /// Elementwise results are three products: 3 roundings of half a unit each, here 4. Sums add one
  /// rounding a term in the worst order: judged against the sum of magnitudes, at most 1,300 terms
  /// long, whose errors in practice grow with the square root: 40.
  template <class Real>
  void check_all() {
    constexpr double kUnit = std::numeric_limits<Real>::epsilon();
    for (const GateScaleSizes& sizes : gate_scale_sizes()) {
      SCOPED_TRACE(sizes.name);
      const GateScaleCase<Real> p(sizes);
      const GateScaleExpected e = gate_scale_expected(p);
      const Results<Real> r = run(GetParam(), p);
      expect_rows("out", r.out, p.stride, e.out, p.directions, e.out, 2 * kUnit);
      expect_rows("dh", r.dh, p.stride, e.dh, p.directions, e.dh, 2 * kUnit);
      expect_rows("dw", r.dw, p.experts, e.dw, p.experts, e.dw_size, 40 * kUnit);
      expect_rows("dz", r.dz, p.directions, e.dz, p.directions, e.dz_size, 40 * kUnit);
      if (HasFatalFailure()) return;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Forms, GateScale, testing::ValuesIn(all_forms()), form_name);

TEST_P(GateScale, f32_equals_the_formulas_for_every_shape) {
  check_all<float>();
}
TEST_P(GateScale, f64_equals_the_formulas_for_every_shape) {
  check_all<double>();
}

TEST_P(GateScale, gradients_equal_central_differences) {
  GateScaleCase<double> p({"small", {1, 3, 0, 9}, {2, 0, 3}});
  const Results<double> r = run(GetParam(), p);
  // L = sum q * out is linear in each of h, w and z, so the differences carry only rounding.
  const auto loss = [&] {
    std::vector<double> out(p.h.size());
    if (GetParam().emulated) {
      emulated::gate_scale_forward(p.shape(), p.inputs(), {out.data(), p.stride}, {});
    } else {
      gate_scale_forward(p.shape(), p.inputs(), 0, p.tokens, {out.data(), p.stride},
                         GetParam().level);
    }
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += p.q[i] * out[i];
    return sum;
  };
  const auto check = [&](const char* name, std::vector<double>& values,
                         const std::vector<double>& gradient) {
    constexpr double kStep = 1e-3;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double kept = values[i];
      values[i] = kept + kStep;
      const double above = loss();
      values[i] = kept - kStep;
      const double below = loss();
      values[i] = kept;
      ASSERT_NEAR((above - below) / (2 * kStep), gradient[i], 1e-9) << name << " " << i;
    }
  };
  check("dh", p.h, r.dh);
  check("dw", p.w, r.dw);
  check("dz", p.z, r.dz);
}

// Ranges and their errors belong to the CPU's entry points alone.
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

TEST(GateScaleCuda, counts_its_launches_and_launches_nothing_for_no_tokens) {
  LaunchCounts counts;
  const LaunchTarget target{nullptr, &counts};
  for (const std::size_t which : {0U, 6U}) {  // "mixture", "zero_tokens"
    const GateScaleCase<float> p(gate_scale_sizes()[which]);
    std::vector<float> out(p.h.size()), dw(p.w.size()), dz(p.z.size()), partial(p.z.size());
    const StridedRows<float> rows{out.data(), p.stride};
    emulated::gate_scale_forward(p.shape(), p.inputs(), rows, target);
    emulated::gate_scale_backward(p.shape(), p.inputs(), p.q_rows(), rows, dw.data(), target);
    emulated::gate_scale_backward_z(p.shape(), p.inputs(), p.q_rows(), p.document_begin.data(),
                                    p.rows, partial.data(), dz.data(), target);
  }
  EXPECT_EQ(counts.gate_scale_forward, 1);
  EXPECT_EQ(counts.gate_scale_backward, 1);
  EXPECT_EQ(counts.gate_scale_backward_z, 4) << "two stages each; dz of an empty row is zero";
}

TEST(GateScaleCuda, too_small_strides_are_shape_errors) {
  const GateScaleCase<float> p(gate_scale_sizes()[0]);
  std::vector<float> out(p.h.size());
  const StridedRows<float> narrow{out.data(), p.directions - 1};
  EXPECT_THROW(emulated::gate_scale_forward(p.shape(), p.inputs(), narrow, {}), base::ShapeError);
  EXPECT_THROW(
      emulated::gate_scale_backward<float>(p.shape(), p.inputs(), p.q_rows(), narrow, nullptr, {}),
      base::ShapeError);
  EXPECT_THROW(
      emulated::gate_scale_backward_z<float>(p.shape(), p.inputs(), {p.q.data(), 1},
                                             p.document_begin.data(), p.rows, nullptr, nullptr, {}),
      base::ShapeError);
}
