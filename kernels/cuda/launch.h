// Launchers of the CUDA kernels. Free of CUDA and torch: a stream is an opaque pointer, all data
// pointers are the device's.
//
// The same declarations are met three times: by nvcc (DFMOA_CUDA=ON), by no_cuda.cpp, whose
// functions throw UsageError, and, in another namespace, by the tests' emulation.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernels/gate_scale.h"

#ifndef DFMOA_CUDA_NAMESPACE
#define DFMOA_CUDA_NAMESPACE cuda
#endif

namespace dfmoa::kernels {

/// How often each kernel was started; kept by whoever owns the device.
struct LaunchCounts {
  std::atomic<std::int64_t> nf4_dequantize{0};
  std::atomic<std::int64_t> gate_scale_forward{0};
  std::atomic<std::int64_t> gate_scale_backward{0};
  std::atomic<std::int64_t> gate_scale_backward_z{0};
};

/// Where a kernel runs, and who counts it.
struct LaunchTarget {
  void* stream = nullptr;          ///< cudaStream_t; null: the default stream
  LaunchCounts* counts = nullptr;  ///< may be null
};

}  // namespace dfmoa::kernels

namespace dfmoa::kernels::DFMOA_CUDA_NAMESPACE {

/// Whether kernels can be launched at all in this build.
[[nodiscard]] bool is_built();

/// As kernels::nf4_dequantize.
///
/// Throws  ShapeError as there, or when the range's codes are not aligned to 4 bytes or out to 16.
///         MachineError when the launch fails. So do all launchers.
void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, float* out, const LaunchTarget& target);
void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, std::uint16_t* out,
                    const LaunchTarget& target);
void nf4_dequantize(const std::uint8_t* codes, const float* absmax, std::int64_t block,
                    std::int64_t begin, std::int64_t end, double* out, const LaunchTarget& target);

/// As kernels::gate_scale_forward, over all tokens. The order of expert_of_direction is not checked
/// here: that would read the device.
template <class Real>
void gate_scale_forward(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                        StridedRows<Real> out, const LaunchTarget& target);

template <class Real>
void gate_scale_backward(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                         StridedRows<const Real> q, StridedRows<Real> dh, Real* dw,
                         const LaunchTarget& target);

/// Pieces that gate_scale_backward_z cuts the tokens of a row into. A function of the shape alone,
/// so that a sum's order is too.
[[nodiscard]] std::int64_t gate_scale_z_pieces(std::int64_t tokens, std::int64_t rows);

/// As kernels::gate_scale_backward_z, over all rows, in two stages: sums of pieces, then their sum.
/// partial: (rows, gate_scale_z_pieces, N) elements of work space.
template <class Real>
void gate_scale_backward_z(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                           StridedRows<const Real> q, const std::int32_t* document_begin,
                           std::int64_t rows, Real* partial, Real* dz, const LaunchTarget& target);

}  // namespace dfmoa::kernels::DFMOA_CUDA_NAMESPACE
