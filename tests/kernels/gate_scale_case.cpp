#include "tests/kernels/gate_scale_case.h"

#include <cmath>
#include <limits>

#include "src/base/random.h"

namespace dfmoa::kernels_test {
namespace {

template <class Real>
std::vector<Real> random_rows(std::int64_t rows, std::int64_t columns, std::int64_t stride,
                              std::uint64_t key) {
  const base::KeyedRandom random(11, {key});
  std::vector<Real> values(static_cast<std::size_t>(rows * stride),
                           std::numeric_limits<Real>::quiet_NaN());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const auto at = static_cast<std::size_t>(r * stride + c);
      values[at] = static_cast<Real>(random.normal(at));
    }
  }
  return values;
}

}  // namespace

std::vector<GateScaleSizes> gate_scale_sizes() {
  return {
      {"mixture", {8, 8, 8, 8, 8, 8, 8, 8}, {37, 1, 90}},
      {"odd_ranks", {1, 3, 0, 7, 17, 2, 33}, {5, 64, 3, 1}, true, true, true, 5},
      {"first_and_last_expert_empty", {0, 4, 0, 0, 9, 0}, {11, 2}},
      {"one_expert", {16}, {19}, true, true, true, 3},
      {"rank_one", {1, 1, 1, 1, 1}, {7, 8}},
      {"one_direction", {1}, {1}},
      {"zero_tokens", {4, 4}, {0}},
      {"an_empty_document", {4, 5}, {3, 0, 6}},
      {"no_directions", {0, 0}, {9}},
      {"all_gates_zero", {8, 5}, {6, 7}, true, true, true, 0, 0.0},
      {"no_w", {8, 3}, {13, 4}, false, true, true, 2},
      {"no_z", {8, 3}, {13, 4}, true, false, true, 2},
      {"neither", {40}, {21}, false, false, false},
      {"one_row_of_z", {8, 8, 4}, {300}, true, true, false, 1},
      {"long_documents", {16, 16}, {700, 1300}},
  };
}

template <class Real>
GateScaleCase<Real>::GateScaleCase(const GateScaleSizes& sizes)
    : has_w(sizes.has_w), has_z(sizes.has_z), has_rows(sizes.has_rows) {
  experts = static_cast<std::int64_t>(sizes.ranks.size());
  for (std::int32_t e = 0; e < static_cast<std::int32_t>(experts); ++e) {
    const auto rank = static_cast<std::size_t>(sizes.ranks[static_cast<std::size_t>(e)]);
    expert_of_direction.insert(expert_of_direction.end(), rank, e);
  }
  directions = static_cast<std::int64_t>(expert_of_direction.size());
  document_begin.push_back(0);
  for (const std::int32_t length : sizes.documents) {
    row_of_token.insert(row_of_token.end(), static_cast<std::size_t>(length),
                        static_cast<std::int32_t>(rows++));
    document_begin.push_back(document_begin.back() + length);
  }
  tokens = document_begin.back();
  stride = directions + sizes.margin;
  h = random_rows<Real>(tokens, directions, stride, 1);
  q = random_rows<Real>(tokens, directions, stride, 2);
  w = random_rows<Real>(tokens, experts, experts, 3);
  z = random_rows<Real>(rows, directions, directions, 4);
  if (sizes.gate >= 0) {
    w.assign(w.size(), static_cast<Real>(sizes.gate));
    z.assign(z.size(), static_cast<Real>(sizes.gate));
  }
}

template <class Real>
kernels::GateScaleShape GateScaleCase<Real>::shape() const {
  return {tokens, directions, experts, expert_of_direction.data(),
          has_rows ? row_of_token.data() : nullptr};
}

template <class Real>
kernels::GateScaleInputs<Real> GateScaleCase<Real>::inputs() const {
  return {{h.data(), stride}, has_w ? w.data() : nullptr, has_z ? z.data() : nullptr, scale};
}

template <class Real>
GateScaleExpected gate_scale_expected(const GateScaleCase<Real>& p) {
  GateScaleExpected e;
  e.out.resize(static_cast<std::size_t>(p.tokens * p.directions));
  e.dh = e.out;
  e.dw.resize(static_cast<std::size_t>(p.tokens * p.experts));
  e.dw_size = e.dw;
  e.dz.resize(static_cast<std::size_t>(p.rows * p.directions));
  e.dz_size = e.dz;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    const std::int64_t row = p.row_of_token[static_cast<std::size_t>(t)];
    for (std::int64_t n = 0; n < p.directions; ++n) {
      const std::int64_t expert = p.expert_of_direction[static_cast<std::size_t>(n)];
      const auto tn = static_cast<std::size_t>(t * p.directions + n);
      const auto te = static_cast<std::size_t>(t * p.experts + expert);
      const auto rn = static_cast<std::size_t>(row * p.directions + n);
      const double h = p.h[static_cast<std::size_t>(t * p.stride + n)];
      const double q = p.q[static_cast<std::size_t>(t * p.stride + n)];
      const double w = p.has_w ? p.w[te] : 1.0;
      const double z = p.has_z ? p.z[rn] : 1.0;
      const double scale = p.scale;
      e.out[tn] = scale * h * w * z;
      e.dh[tn] = scale * q * w * z;
      e.dw[te] += scale * q * h * z;
      e.dw_size[te] += std::fabs(scale * q * h * z);
      e.dz[rn] += scale * q * h * w;
      e.dz_size[rn] += std::fabs(scale * q * h * w);
    }
  }
  return e;
}

template struct GateScaleCase<float>;
template struct GateScaleCase<double>;
template GateScaleExpected gate_scale_expected(const GateScaleCase<float>&);
template GateScaleExpected gate_scale_expected(const GateScaleCase<double>&);

}  // namespace dfmoa::kernels_test
