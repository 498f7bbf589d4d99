#pragma once
// tree_attention, blocked: eight floats; see vector_avx512.hpp for what each name means.

#include <immintrin.h>

#include <cstdint>

#define FPDIST_INLINE __attribute__((always_inline)) static inline

namespace fpdist::kernels {

struct Avx2 {
  using V = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kColumns = 2;  // 6 x 2 sums, two of the right side and a word: 15 of 16 registers
  static constexpr int kWord = 1;

  FPDIST_INLINE V zero() { return _mm256_setzero_ps(); }
  FPDIST_INLINE V all(float x) { return _mm256_set1_ps(x); }
  FPDIST_INLINE V load(const void* from) { return _mm256_loadu_ps(static_cast<const float*>(from)); }
  FPDIST_INLINE void store(void* to, V x) { _mm256_storeu_ps(static_cast<float*>(to), x); }
  FPDIST_INLINE V add(V a, V b) { return _mm256_add_ps(a, b); }
  FPDIST_INLINE V subtract(V a, V b) { return _mm256_sub_ps(a, b); }
  FPDIST_INLINE V multiply(V a, V b) { return _mm256_mul_ps(a, b); }
  FPDIST_INLINE V multiply_add(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  FPDIST_INLINE V multiply_subtract(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }
  FPDIST_INLINE V greater(V a, V b) { return _mm256_max_ps(a, b); }
  FPDIST_INLINE V rounded(V x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  FPDIST_INLINE V times_power(V x, V n) {  // an exponent of -127 is a zero
    const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(x, _mm256_castsi256_ps(exponent));
  }
  FPDIST_INLINE float sum(V x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
  }
  FPDIST_INLINE float greatest(V x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
  }
  FPDIST_INLINE V where_seen(int32_t row, const int32_t* k_row, const int32_t* k_end, V x, V other) {
    const auto load_rows = [](const int32_t* from) __attribute__((always_inline)) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    };
    const __m256i at = _mm256_set1_epi32(row);
    const __m256i above = _mm256_cmpgt_epi32(load_rows(k_row), at), inside = _mm256_cmpgt_epi32(load_rows(k_end), at);
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(_mm256_andnot_si256(above, inside)));
  }
  FPDIST_INLINE V load_elements(const float* from) { return _mm256_loadu_ps(from); }
  FPDIST_INLINE V load_elements(const uint16_t* from) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }

  FPDIST_INLINE void store_rounded(uint16_t* to, V x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i nearest =
        _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i is_none = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i all = _mm256_blendv_epi8(nearest, _mm256_set1_epi32(0x7fc0), is_none);
    const __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), half);
  }

  FPDIST_INLINE V word(const uint32_t* from) { return _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(*from))); }
  FPDIST_INLINE V product_add(V sum, V a, V b) { return _mm256_fmadd_ps(a, b, sum); }

  FPDIST_INLINE void transpose(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) a[i] = load(from + i * from_stride);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
      b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      a[4 * i] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0x44);
      a[4 * i + 1] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0xee);
      a[4 * i + 2] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0x44);
      a[4 * i + 3] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      store(to + c * to_stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
      store(to + (4 + c) * to_stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
    }
  }
};

}  // namespace fpdist::kernels
