// The gate scale on AVX2.
#include <immintrin.h>

#include "kernels/gate_scale_vector.h"

namespace dfmoa::kernels {
namespace {

template <class Real>
struct LanesOf;

template <>
struct LanesOf<float> {
  using Real = float;
  using Vector = __m256;
  static constexpr std::int64_t kWidth = 8;

  static __m256i first(std::int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vector load(const float* from, std::int64_t count) {
    return count == kWidth ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, first(count));
  }
  static void store(float* to, std::int64_t count, Vector value) {
    if (count == kWidth) {
      _mm256_storeu_ps(to, value);
    } else {
      _mm256_maskstore_ps(to, first(count), value);
    }
  }
  static Vector broadcast(float value) { return _mm256_set1_ps(value); }
  static Vector multiply(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static float sum(Vector value) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
  }
};

template <>
struct LanesOf<double> {
  using Real = double;
  using Vector = __m256d;
  static constexpr std::int64_t kWidth = 4;

  static __m256i first(std::int64_t count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static Vector load(const double* from, std::int64_t count) {
    return count == kWidth ? _mm256_loadu_pd(from) : _mm256_maskload_pd(from, first(count));
  }
  static void store(double* to, std::int64_t count, Vector value) {
    if (count == kWidth) {
      _mm256_storeu_pd(to, value);
    } else {
      _mm256_maskstore_pd(to, first(count), value);
    }
  }
  static Vector broadcast(double value) { return _mm256_set1_pd(value); }
  static Vector multiply(Vector a, Vector b) { return _mm256_mul_pd(a, b); }
  static Vector add(Vector a, Vector b) { return _mm256_add_pd(a, b); }
  static double sum(Vector value) {
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(value), _mm256_extractf128_pd(value, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
};

}  // namespace

template <class Real>
void gate_scale_forward_avx2(const GateScaleWork<Real>& work, std::int64_t begin,
                             std::int64_t end) {
  GateScaleVector<LanesOf<Real>>::forward(work, begin, end);
}
template <class Real>
void gate_scale_backward_avx2(const GateScaleWork<Real>& work, std::int64_t begin,
                              std::int64_t end) {
  GateScaleVector<LanesOf<Real>>::backward(work, begin, end);
}
template <class Real>
void gate_scale_backward_z_avx2(const GateScaleWork<Real>& work, std::int64_t begin,
                                std::int64_t end) {
  GateScaleVector<LanesOf<Real>>::backward_z(work, begin, end);
}

template void gate_scale_forward_avx2(const GateScaleWork<float>&, std::int64_t, std::int64_t);
template void gate_scale_forward_avx2(const GateScaleWork<double>&, std::int64_t, std::int64_t);
template void gate_scale_backward_avx2(const GateScaleWork<float>&, std::int64_t, std::int64_t);
template void gate_scale_backward_avx2(const GateScaleWork<double>&, std::int64_t, std::int64_t);
template void gate_scale_backward_z_avx2(const GateScaleWork<float>&, std::int64_t, std::int64_t);
template void gate_scale_backward_z_avx2(const GateScaleWork<double>&, std::int64_t, std::int64_t);

}  // namespace dfmoa::kernels
