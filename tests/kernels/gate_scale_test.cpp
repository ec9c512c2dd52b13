#include "kernels/gate_scale.h"

#include <cmath>

#include "tests/kernels/gate_scale_results.h"

using namespace dfmoa;
using namespace dfmoa::kernels;
using namespace dfmoa::kernels_test;

namespace {

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
    if (GetParam().on_device) {
      forward_on_device(p, out);
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
