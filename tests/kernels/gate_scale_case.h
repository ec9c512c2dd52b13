// A seeded mixture-gate problem of any shape, in one precision, and the plain formulas in double.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/gate_scale.h"

namespace dfmoa::kernels_test {

struct GateScaleSizes {
  std::string name;
  std::vector<std::int32_t> ranks;      ///< directions of each expert; 0 is legal
  std::vector<std::int32_t> documents;  ///< tokens of each row of z
  bool has_w = true;
  bool has_z = true;
  bool has_rows = true;     ///< false: one row of z for all tokens
  std::int64_t margin = 0;  ///< extra elements between rows of h, q and out
  double gate = -1;         ///< >= 0: every w and z has this value
};

/// Every shape the suite runs.
std::vector<GateScaleSizes> gate_scale_sizes();

/// All arrays of a problem. The margins between rows hold NaN: a kernel that reads them shows.
template <class Real>
struct GateScaleCase {
  explicit GateScaleCase(const GateScaleSizes& sizes);

  [[nodiscard]] kernels::GateScaleShape shape() const;
  [[nodiscard]] kernels::GateScaleInputs<Real> inputs() const;
  [[nodiscard]] kernels::StridedRows<const Real> q_rows() const { return {q.data(), stride}; }

  std::int64_t tokens = 0, directions = 0, experts = 0, rows = 0, stride = 0;
  std::vector<std::int32_t> expert_of_direction, row_of_token, document_begin;
  std::vector<Real> h, q, w, z;
  Real scale = Real(1.75);
  bool has_w, has_z, has_rows;
};

/// Results in double; `*_size` are sums of magnitudes, against which rounding errors are judged.
struct GateScaleExpected {
  std::vector<double> out, dh;      ///< (T, N)
  std::vector<double> dw, dw_size;  ///< (T, E)
  std::vector<double> dz, dz_size;  ///< (rows, N)
};

template <class Real>
GateScaleExpected gate_scale_expected(const GateScaleCase<Real>& problem);

}  // namespace dfmoa::kernels_test
