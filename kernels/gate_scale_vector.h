// The vector form of the gate scale, written once over a register type. Included only by the files
// that are compiled for one instruction set; `Lanes` is local to each, so nothing is shared.
//
// Lanes: Real, Vector, kWidth; load and store of the first `count` lanes (absent lanes read 0);
// broadcast, multiply, add, sum.
#pragma once

#include "kernels/gate_scale_levels.h"

namespace dfmoa::kernels {

template <class Lanes>
struct GateScaleVector {
  using Real = typename Lanes::Real;
  using Vector = typename Lanes::Vector;
  using Work = GateScaleWork<Real>;

  static Real w_of(const Work& work, std::int64_t t, std::int64_t expert) {
    return work.inputs.w == nullptr ? Real(1) : work.inputs.w[t * work.shape.experts + expert];
  }

  /// The rank gates of token t; null when all are 1.
  static const Real* z_of(const Work& work, std::int64_t t) {
    if (work.inputs.z == nullptr) return nullptr;
    const std::int64_t row = work.shape.row_of_token == nullptr ? 0 : work.shape.row_of_token[t];
    return work.inputs.z + row * work.shape.directions;
  }

  static Vector load_z(const Real* z, std::int64_t n, std::int64_t count) {
    return z == nullptr ? Lanes::broadcast(1) : Lanes::load(z + n, count);
  }

  static std::int64_t lanes_from(std::int64_t n, std::int64_t end) {
    return end - n < Lanes::kWidth ? end - n : Lanes::kWidth;
  }

  static void forward(const Work& work, std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const Real* h = work.inputs.h.data + t * work.inputs.h.stride;
      const Real* z = z_of(work, t);
      Real* out = work.out.data + t * work.out.stride;
      for (std::int64_t s = 0; s < work.num_spans; ++s) {
        const GateScaleSpan span = work.spans[s];
        const Vector gate = Lanes::broadcast(work.inputs.scale * w_of(work, t, span.expert));
        for (std::int64_t n = span.begin; n < span.end; n += Lanes::kWidth) {
          const std::int64_t count = lanes_from(n, span.end);
          const Vector c = Lanes::multiply(gate, load_z(z, n, count));
          Lanes::store(out + n, count, Lanes::multiply(Lanes::load(h + n, count), c));
        }
      }
    }
  }

  static void backward(const Work& work, std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const Real* h = work.inputs.h.data + t * work.inputs.h.stride;
      const Real* q = work.q.data + t * work.q.stride;
      const Real* z = z_of(work, t);
      Real* dh = work.out.data + t * work.out.stride;
      Real* dw = work.dw == nullptr ? nullptr : work.dw + t * work.shape.experts;
      // An expert without directions has no span, and still a gradient: zero.
      for (std::int64_t e = 0; dw != nullptr && e < work.shape.experts; ++e) dw[e] = 0;
      for (std::int64_t s = 0; s < work.num_spans; ++s) {
        const GateScaleSpan span = work.spans[s];
        const Vector gate = Lanes::broadcast(work.inputs.scale * w_of(work, t, span.expert));
        Vector sum = Lanes::broadcast(0);
        for (std::int64_t n = span.begin; n < span.end; n += Lanes::kWidth) {
          const std::int64_t count = lanes_from(n, span.end);
          const Vector qz = Lanes::multiply(Lanes::load(q + n, count), load_z(z, n, count));
          sum = Lanes::add(sum, Lanes::multiply(qz, Lanes::load(h + n, count)));
          Lanes::store(dh + n, count, Lanes::multiply(qz, gate));
        }
        if (dw != nullptr) dw[span.expert] = work.inputs.scale * Lanes::sum(sum);
      }
    }
  }

  static void backward_z(const Work& work, std::int64_t begin, std::int64_t end) {
    const StridedRows<const Real> h = work.inputs.h;
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t last = work.document_begin[row + 1];
      for (std::int64_t s = 0; s < work.num_spans; ++s) {
        const GateScaleSpan span = work.spans[s];
        for (std::int64_t n = span.begin; n < span.end; n += Lanes::kWidth) {
          const std::int64_t count = lanes_from(n, span.end);
          Vector sum = Lanes::broadcast(0);
          for (std::int64_t t = work.document_begin[row]; t < last; ++t) {
            const Vector qh =
                Lanes::multiply(Lanes::load(work.q.data + t * work.q.stride + n, count),
                                Lanes::load(h.data + t * h.stride + n, count));
            const Vector w = Lanes::broadcast(w_of(work, t, span.expert));
            sum = Lanes::add(sum, Lanes::multiply(qh, w));
          }
          const Vector scale = Lanes::broadcast(work.inputs.scale);
          Lanes::store(work.dz + row * work.shape.directions + n, count,
                       Lanes::multiply(scale, sum));
        }
      }
    }
  }
};

}  // namespace dfmoa::kernels
