#pragma once
// tree_attention, blocked: sixteen floats. Everything is inlined: nothing here may become a function that code for
// other processors could be linked with.

#include <immintrin.h>

#include <cstdint>

#define FPDIST_INLINE __attribute__((always_inline)) static inline

namespace fpdist::kernels {

struct Avx512 {
  using V = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kColumns = 4;  ///< vectors of a row of a product that stay in registers
  static constexpr int kWord = 1;     ///< elements

  FPDIST_INLINE V zero() { return _mm512_setzero_ps(); }
  FPDIST_INLINE V all(float x) { return _mm512_set1_ps(x); }
  FPDIST_INLINE V load(const void* from) { return _mm512_loadu_ps(from); }
  FPDIST_INLINE void store(void* to, V x) { _mm512_storeu_ps(to, x); }
  FPDIST_INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
  FPDIST_INLINE V subtract(V a, V b) { return _mm512_sub_ps(a, b); }
  FPDIST_INLINE V multiply(V a, V b) { return _mm512_mul_ps(a, b); }
  FPDIST_INLINE V multiply_add(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  FPDIST_INLINE V multiply_subtract(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }
  FPDIST_INLINE V greater(V a, V b) { return _mm512_max_ps(a, b); }
  FPDIST_INLINE V rounded(V x) { return _mm512_roundscale_ps(x, 0); }
  /// x 2^n for whole n from -127 on, which gives 0; what is not a number stays so.
  FPDIST_INLINE V times_power(V x, V n) {
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(n, _mm512_set1_ps(-127.0f), _CMP_NEQ_UQ), x, n);
  }
  FPDIST_INLINE float sum(V x) { return _mm512_reduce_add_ps(x); }
  FPDIST_INLINE float greatest(V x) { return _mm512_reduce_max_ps(x); }
  /// x where a key is seen from `row`, else `other`.
  FPDIST_INLINE V where_seen(int32_t row, const int32_t* k_row, const int32_t* k_end, V x, V other) {
    const __m512i at = _mm512_set1_epi32(row);
    const __mmask16 seen = static_cast<__mmask16>(_mm512_cmple_epi32_mask(_mm512_loadu_si512(k_row), at) &
                                                  _mm512_cmplt_epi32_mask(at, _mm512_loadu_si512(k_end)));
    return _mm512_mask_mov_ps(other, seen, x);
  }
  FPDIST_INLINE V load_elements(const float* from) { return _mm512_loadu_ps(from); }
  FPDIST_INLINE V load_elements(const uint16_t* from) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }

  /// To the nearest bfloat16, ties to even; what is not a number stays none.
  FPDIST_INLINE void store_rounded(uint16_t* to, V x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest =
        _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 is_none = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i all = _mm512_mask_mov_epi32(nearest, is_none, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(all));
  }

  /// The same word for every lane, and what a product adds for it.
  FPDIST_INLINE V word(const uint32_t* from) { return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(*from))); }
  FPDIST_INLINE V product_add(V sum, V a, V b) { return _mm512_fmadd_ps(a, b, sum); }

  /// A square of words, row i at from + i * from_stride, becomes columns.
  FPDIST_INLINE void transpose(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(from + i * from_stride);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {  // pairs of rows: words interleaved
      b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
      b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // fours of rows: each quarter of a[4i + c] is column c of it
      a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
      a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
      a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
      a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {  // quarters to their columns
      const __m512i low_even = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88),
                    low_odd = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
      const __m512i high_even = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88),
                    high_odd = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
      _mm512_storeu_si512(to + c * to_stride, _mm512_shuffle_i32x4(low_even, high_even, 0x88));
      _mm512_storeu_si512(to + (4 + c) * to_stride, _mm512_shuffle_i32x4(low_odd, high_odd, 0x88));
      _mm512_storeu_si512(to + (8 + c) * to_stride, _mm512_shuffle_i32x4(low_even, high_even, 0xdd));
      _mm512_storeu_si512(to + (12 + c) * to_stride, _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd));
    }
  }
};

#ifdef __AVX512BF16__
/// The same with words of two bfloat16.
struct Avx512Bf16 : Avx512 {
  static constexpr int kWord = 2;
  FPDIST_INLINE V product_add(V sum, V a, V b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  /// Thirty-two elements, `low` first.
  FPDIST_INLINE __m512i round_pair(V low, V high) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)); }
  FPDIST_INLINE void store_pair(uint32_t* to, V low, V high) { _mm512_storeu_si512(to, round_pair(low, high)); }
  /// Words whose low half is of `even` and whose high half is of `odd`, lane by lane.
  FPDIST_INLINE void store_interleaved(uint32_t* to, V even, V odd) {
    const __m512i lanes = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(lanes, round_pair(even, odd)));
  }
  /// Two rows of thirty-two elements become thirty-two words, one element of each.
  FPDIST_INLINE void interleave(const uint32_t* even, const uint32_t* odd, uint32_t* to) {
    const __m512i a = _mm512_loadu_si512(even), b = _mm512_loadu_si512(odd);
    const __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);  // within quarters
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high));
    _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high));
  }
};
#endif

}  // namespace fpdist::kernels
