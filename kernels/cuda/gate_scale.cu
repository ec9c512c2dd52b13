// The gate scale on CUDA. A warp owns a token (forward, backward) or a share of a row's tokens
// (backward_z); sums run in a fixed order, without atomics.
#include "kernels/gate_scale.h"

#include "kernels/cuda/launch.h"
#include "kernels/cuda/portable.h"

namespace dfmoa::kernels {
namespace {

constexpr unsigned kWarps = 8;
constexpr unsigned kThreads = kWarps * kWarpSize;
constexpr std::int64_t kTokensPerPiece = 256;
constexpr std::int64_t kMostPieces = 64;

/// The token of this warp.
__device__ inline std::int64_t token_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
}

/// The rank gates of token t; null when all are 1.
template <class Real>
__device__ const Real* z_of(const GateScaleShape& shape, const Real* z, std::int64_t t) {
  if (z == nullptr) return nullptr;
  return z + (shape.row_of_token == nullptr ? 0 : shape.row_of_token[t]) * shape.directions;
}

template <class Real>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ GateScaleShape shape,
                   const __grid_constant__ GateScaleInputs<Real> in, StridedRows<Real> out) {
  const std::int64_t t = token_of_warp();
  if (t >= shape.tokens) return;
  const Real* z = z_of(shape, in.z, t);
  for (std::int64_t n = threadIdx.x % kWarpSize; n < shape.directions; n += kWarpSize) {
    Real c = in.scale;
    if (in.w != nullptr) c *= in.w[t * shape.experts + shape.expert_of_direction[n]];
    if (z != nullptr) c *= z[n];
    out.data[t * out.stride + n] = in.h.data[t * in.h.stride + n] * c;
  }
}

/// expert_begin[e] = first direction whose expert is e or above; expert_begin[E] = N. Every thread
/// of the block calls it, and may read the result afterwards.
__device__ inline void find_experts(const GateScaleShape& shape, int* expert_begin) {
  for (int e = static_cast<int>(threadIdx.x); e <= shape.experts; e += kThreads) {
    int low = 0;
    int high = static_cast<int>(shape.directions);
    while (low < high) {
      const int middle = (low + high) / 2;
      if (shape.expert_of_direction[middle] < e) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    expert_begin[e] = low;
  }
  __syncthreads();
}

template <class Real>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const __grid_constant__ GateScaleShape shape,
                    const __grid_constant__ GateScaleInputs<Real> in, StridedRows<const Real> q,
                    StridedRows<Real> dh, Real* dw) {
  DYNAMIC_SHARED(int, expert_begin);
  find_experts(shape, expert_begin);
  const std::int64_t t = token_of_warp();
  if (t >= shape.tokens) return;
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  const Real* z = z_of(shape, in.z, t);
  const Real* h_row = in.h.data + t * in.h.stride;
  const Real* q_row = q.data + t * q.stride;
  Real* dh_row = dh.data + t * dh.stride;
  for (int e = 0; e < shape.experts; ++e) {
    const Real gate = in.w == nullptr ? in.scale : in.scale * in.w[t * shape.experts + e];
    Real sum = 0;
    for (int n = expert_begin[e] + lane; n < expert_begin[e + 1]; n += kWarpSize) {
      const Real qz = z == nullptr ? q_row[n] : q_row[n] * z[n];
      sum += qz * h_row[n];
      dh_row[n] = qz * gate;
    }
    if (dw == nullptr) continue;
    sum = warp_sum(sum);
    if (lane == 0) dw[t * shape.experts + e] = in.scale * sum;
  }
}

/// Stage 1: blockIdx.x = row * pieces + piece, blockIdx.y = 32 directions. Warps take the piece's
/// tokens in turn; their sums are added in the warps' order.
template <class Real>
__global__ void __launch_bounds__(kThreads)
    piece_kernel(const __grid_constant__ GateScaleShape shape,
                 const __grid_constant__ GateScaleInputs<Real> in, StridedRows<const Real> q,
                 const std::int32_t* __restrict__ document_begin, std::int64_t pieces,
                 Real* __restrict__ partial) {
  SHARED_ARRAY(Real, sum_of_warp, [kWarps][kWarpSize]);
  const unsigned lane = threadIdx.x % kWarpSize;
  const unsigned warp = threadIdx.x / kWarpSize;
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.y) * kWarpSize + lane;
  const std::int64_t row = blockIdx.x / pieces;
  const std::int64_t piece = blockIdx.x % pieces;
  const std::int64_t first = document_begin[row];
  const std::int64_t length = document_begin[row + 1] - first;
  const std::int64_t begin = first + length * piece / pieces;
  const std::int64_t end = first + length * (piece + 1) / pieces;
  Real sum = 0;
  if (n < shape.directions) {
    const std::int64_t expert = shape.expert_of_direction[n];
    for (std::int64_t t = begin + warp; t < end; t += kWarps) {
      const Real qh = q.data[t * q.stride + n] * in.h.data[t * in.h.stride + n];
      sum += in.w == nullptr ? qh : qh * in.w[t * shape.experts + expert];
    }
  }
  sum_of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || n >= shape.directions) return;
  for (unsigned other = 1; other < kWarps; ++other) sum += sum_of_warp[other][lane];
  partial[static_cast<std::int64_t>(blockIdx.x) * shape.directions + n] = sum;
}

/// Stage 2: one thread per element of dz.
template <class Real>
__global__ void __launch_bounds__(kThreads)
    row_kernel(const Real* __restrict__ partial, std::int64_t pieces, std::int64_t directions,
               std::int64_t rows, Real scale, Real* __restrict__ dz) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= rows * directions) return;
  const std::int64_t row = at / directions;
  const std::int64_t n = at % directions;
  Real sum = 0;
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    sum += partial[(row * pieces + piece) * directions + n];
  }
  dz[at] = scale * sum;
}

void check_stride(const char* name, std::int64_t stride, const GateScaleShape& shape) {
  if (stride < shape.directions) {
    throw base::ShapeError(base::text("gate_scale on a device: the rows of ", name, " lie ", stride,
                                      " elements apart, expected at least ", shape.directions));
  }
}

}  // namespace

namespace DFMOA_CUDA_NAMESPACE {

template <class Real>
void gate_scale_forward(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                        StridedRows<Real> out, const LaunchTarget& target) {
  check_stride("h", inputs.h.stride, shape);
  check_stride("out", out.stride, shape);
  if (shape.tokens == 0 || shape.directions == 0) return;
  LAUNCH((forward_kernel<Real>), blocks_for(shape.tokens, kWarps), kThreads, 0, target.stream,
         shape, inputs, out);
  finish_launch("gate_scale_forward",
                target.counts == nullptr ? nullptr : &target.counts->gate_scale_forward);
}

template <class Real>
void gate_scale_backward(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                         StridedRows<const Real> q, StridedRows<Real> dh, Real* dw,
                         const LaunchTarget& target) {
  check_stride("h", inputs.h.stride, shape);
  check_stride("q", q.stride, shape);
  check_stride("dh", dh.stride, shape);
  if (shape.tokens == 0) return;
  const auto bytes = static_cast<std::size_t>(shape.experts + 1) * sizeof(int);
  LAUNCH((backward_kernel<Real>), blocks_for(shape.tokens, kWarps), kThreads, bytes, target.stream,
         shape, inputs, q, dh, dw);
  finish_launch("gate_scale_backward",
                target.counts == nullptr ? nullptr : &target.counts->gate_scale_backward);
}

std::int64_t gate_scale_z_pieces(std::int64_t tokens, std::int64_t rows) {
  if (rows == 0) return 1;
  const std::int64_t pieces = tokens / (rows * kTokensPerPiece);
  if (pieces < 1) return 1;
  return pieces < kMostPieces ? pieces : kMostPieces;
}

template <class Real>
void gate_scale_backward_z(const GateScaleShape& shape, const GateScaleInputs<Real>& inputs,
                           StridedRows<const Real> q, const std::int32_t* document_begin,
                           std::int64_t rows, Real* partial, Real* dz, const LaunchTarget& target) {
  check_stride("h", inputs.h.stride, shape);
  check_stride("q", q.stride, shape);
  if (rows == 0 || shape.directions == 0) return;
  std::atomic<std::int64_t>* count =
      target.counts == nullptr ? nullptr : &target.counts->gate_scale_backward_z;
  const std::int64_t pieces = gate_scale_z_pieces(shape.tokens, rows);
  const dim3 grid(static_cast<unsigned>(rows * pieces), blocks_for(shape.directions, kWarpSize));
  LAUNCH((piece_kernel<Real>), grid, kThreads, 0, target.stream, shape, inputs, q, document_begin,
         pieces, partial);
  finish_launch("gate_scale_backward_z, stage 1", count);
  LAUNCH((row_kernel<Real>), blocks_for(rows * shape.directions, kThreads), kThreads, 0,
         target.stream, static_cast<const Real*>(partial), pieces, shape.directions, rows,
         inputs.scale, dz);
  finish_launch("gate_scale_backward_z, stage 2", count);
}

#define DFMOA_INSTANTIATE(Real)                                                                   \
  template void gate_scale_forward(const GateScaleShape&, const GateScaleInputs<Real>&,           \
                                   StridedRows<Real>, const LaunchTarget&);                       \
  template void gate_scale_backward(const GateScaleShape&, const GateScaleInputs<Real>&,          \
                                    StridedRows<const Real>, StridedRows<Real>, Real*,            \
                                    const LaunchTarget&);                                         \
  template void gate_scale_backward_z(const GateScaleShape&, const GateScaleInputs<Real>&,        \
                                      StridedRows<const Real>, const std::int32_t*, std::int64_t, \
                                      Real*, Real*, const LaunchTarget&);
DFMOA_INSTANTIATE(float)
DFMOA_INSTANTIATE(double)
#undef DFMOA_INSTANTIATE

}  // namespace DFMOA_CUDA_NAMESPACE
}  // namespace dfmoa::kernels
