// The gate scale on AVX-512: masks make every row length cost the same code.
#include <immintrin.h>

#include "kernels/gate_scale_vector.h"

namespace dfmoa::kernels {
namespace {

template <class Real>
struct LanesOf;

template <>
struct LanesOf<float> {
  using Real = float;
  using Vector = __m512;
  static constexpr std::int64_t kWidth = 16;

  static __mmask16 first(std::int64_t count) {
    return static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U);
  }
  static Vector load(const float* from, std::int64_t count) {
    return _mm512_maskz_loadu_ps(first(count), from);
  }
  static void store(float* to, std::int64_t count, Vector value) {
    _mm512_mask_storeu_ps(to, first(count), value);
  }
  static Vector broadcast(float value) { return _mm512_set1_ps(value); }
  static Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static float sum(Vector value) { return _mm512_reduce_add_ps(value); }
};

template <>
struct LanesOf<double> {
  using Real = double;
  using Vector = __m512d;
  static constexpr std::int64_t kWidth = 8;

  static __mmask8 first(std::int64_t count) {
    return static_cast<__mmask8>((1U << static_cast<unsigned>(count)) - 1U);
  }
  static Vector load(const double* from, std::int64_t count) {
    return _mm512_maskz_loadu_pd(first(count), from);
  }
  static void store(double* to, std::int64_t count, Vector value) {
    _mm512_mask_storeu_pd(to, first(count), value);
  }
  static Vector broadcast(double value) { return _mm512_set1_pd(value); }
  static Vector multiply(Vector a, Vector b) { return _mm512_mul_pd(a, b); }
  static Vector add(Vector a, Vector b) { return _mm512_add_pd(a, b); }
  static double sum(Vector value) { return _mm512_reduce_add_pd(value); }
};

}  // namespace

template <class Real>
void gate_scale_forward_avx512(const GateScaleWork<Real>& work, std::int64_t begin,
                               std::int64_t end) {
  GateScaleVector<LanesOf<Real>>::forward(work, begin, end);
}
template <class Real>
void gate_scale_backward_avx512(const GateScaleWork<Real>& work, std::int64_t begin,
                                std::int64_t end) {
  GateScaleVector<LanesOf<Real>>::backward(work, begin, end);
}
template <class Real>
void gate_scale_backward_z_avx512(const GateScaleWork<Real>& work, std::int64_t begin,
                                  std::int64_t end) {
  GateScaleVector<LanesOf<Real>>::backward_z(work, begin, end);
}

template void gate_scale_forward_avx512(const GateScaleWork<float>&, std::int64_t, std::int64_t);
template void gate_scale_forward_avx512(const GateScaleWork<double>&, std::int64_t, std::int64_t);
template void gate_scale_backward_avx512(const GateScaleWork<float>&, std::int64_t, std::int64_t);
template void gate_scale_backward_avx512(const GateScaleWork<double>&, std::int64_t, std::int64_t);
template void gate_scale_backward_z_avx512(const GateScaleWork<float>&, std::int64_t, std::int64_t);
template void gate_scale_backward_z_avx512(const GateScaleWork<double>&, std::int64_t,
                                           std::int64_t);

}  // namespace dfmoa::kernels
