/* SPDX-License-Identifier: Apache-2.0 */
/* quant_lanes_avx2.h: the vectors of quant_lanes.h: 8 floats. */
#ifndef LB_KERNEL_QUANT_LANES_AVX2_H
#define LB_KERNEL_QUANT_LANES_AVX2_H
#ifdef __AVX2__

#include "base/base.h"
#include <immintrin.h>

#define LANES_INLINE __attribute__((always_inline)) static inline

enum { HALF = 8 };
typedef __m256 vh;   /* + - * / round as the scalar operations do */
typedef __m256i vhi; /* i32 */
typedef __m256 vhm;  /* a mask */

LANES_INLINE vh vh_all(float x) {
    return _mm256_set1_ps(x);
}
LANES_INLINE vh vh_load(const float *p) {
    return _mm256_loadu_ps(p);
}
LANES_INLINE void vh_store(float *p, vh v) {
    _mm256_storeu_ps(p, v);
}
/* a < b ? a : b, a > b ? a : b: b where one is a NaN. */
LANES_INLINE vh vh_min(vh a, vh b) {
    return _mm256_min_ps(a, b);
}
LANES_INLINE vh vh_max(vh a, vh b) {
    return _mm256_max_ps(a, b);
}
LANES_INLINE vh vh_sqrt(vh a) {
    return _mm256_sqrt_ps(a);
}
LANES_INLINE vh vh_abs(vh a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
LANES_INLINE vh vh_neg(vh a) {
    return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a);
}
LANES_INLINE vhm vh_less(vh a, vh b) { /* false where one is a NaN */
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
LANES_INLINE vhm vh_equal(vh a, vh b) {
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
LANES_INLINE vhm vhm_and(vhm a, vhm b) {
    return _mm256_and_ps(a, b);
}
LANES_INLINE vhm vhm_or(vhm a, vhm b) {
    return _mm256_or_ps(a, b);
}
LANES_INLINE u32 vhm_bits(vhm m) {
    return (u32)_mm256_movemask_ps(m);
}
LANES_INLINE vh vh_pick(vhm m, vh yes, vh no) {
    return _mm256_blendv_ps(no, yes, m);
}
/* a, or a + b where m is not set; a is not -0. */
LANES_INLINE vh vh_add_unless(vhm m, vh a, vh b) {
    return _mm256_add_ps(a, _mm256_andnot_ps(m, b));
}
LANES_INLINE vhi vh_pattern(vh x) {
    return _mm256_castps_si256(x);
}
LANES_INLINE vh vhi_as_floats(vhi q) {
    return _mm256_castsi256_ps(q);
}
/* lb_nearest of every lane. */
LANES_INLINE vhi vhi_nearest(vh x) {
    const vh shifted = _mm256_add_ps(x, _mm256_set1_ps(12582912.0f));
    const vhi low = _mm256_and_si256(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x7fffff));
    const vhi q = _mm256_sub_epi32(low, _mm256_set1_epi32(0x400000));
    return _mm256_and_si256(q, _mm256_castps_si256(_mm256_cmp_ps(shifted, shifted, _CMP_ORD_Q)));
}
LANES_INLINE vhi vhi_clamp(vhi q, i32 lo, i32 hi) {
    return _mm256_max_epi32(_mm256_min_epi32(q, _mm256_set1_epi32(hi)), _mm256_set1_epi32(lo));
}
/* Adds bias, and stores the lowest byte of every lane. */
LANES_INLINE void vhi_store_bytes(u8 *p, vhi q, i32 bias) {
    const vhi pick = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                      0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const vhi b = _mm256_shuffle_epi8(_mm256_add_epi32(q, _mm256_set1_epi32(bias)), pick);
    lb_store_u32(p, (u32)_mm256_extract_epi32(b, 0));
    lb_store_u32(p + 4, (u32)_mm256_extract_epi32(b, 4));
}

/* out[step * i + lane] = src[lane][i] for n values (a multiple of 8). */
LANES_INLINE void half_transpose(float *out, size_t step, const float *const src[8], size_t n) {
    for (size_t i = 0; i < n; i += 8, out += 8 * step) {
        vh r[8], t[8];
        for (size_t k = 0; k < 8; k++)
            r[k] = vh_load(src[k] + i);
        for (size_t k = 0; k < 8; k += 4) { /* 4 x 4 in each half of the registers */
            const vh a = _mm256_unpacklo_ps(r[k], r[k + 1]), b = _mm256_unpackhi_ps(r[k], r[k + 1]);
            const vh c = _mm256_unpacklo_ps(r[k + 2], r[k + 3]);
            const vh d = _mm256_unpackhi_ps(r[k + 2], r[k + 3]);
            t[k] = _mm256_shuffle_ps(a, c, 0x44);
            t[k + 1] = _mm256_shuffle_ps(a, c, 0xee);
            t[k + 2] = _mm256_shuffle_ps(b, d, 0x44);
            t[k + 3] = _mm256_shuffle_ps(b, d, 0xee);
        }
        for (size_t k = 0; k < 4; k++) {
            vh_store(out + step * k, _mm256_permute2f128_ps(t[k], t[k + 4], 0x20));
            vh_store(out + step * (k + 4), _mm256_permute2f128_ps(t[k], t[k + 4], 0x31));
        }
    }
}

/* ---- for codebooks: eight floats as a table ---- */

typedef __m256 vt;

LANES_INLINE vt vt_load(const float *p) {
    return _mm256_loadu_ps(p);
}
/* w * (scale * value - x)^2 of all values. */
LANES_INLINE vt vt_errors(vt values, float scale, float x, float w) {
    const vt d = _mm256_set1_ps(scale) * values - _mm256_set1_ps(x);
    return _mm256_set1_ps(w) * d * d;
}
/* The values at the lowest 3 bits of every lane. */
LANES_INLINE vh vt_at(vt t, vhi i) {
    return _mm256_permutevar8x32_ps(t, i);
}
LANES_INLINE vhi vhi_all(i32 q) {
    return _mm256_set1_epi32(q);
}
LANES_INLINE vhi vhi_load(const void *p) {
    return _mm256_loadu_si256(p);
}
LANES_INLINE void vhi_store(void *p, vhi q) {
    _mm256_storeu_si256(p, q);
}
/* n > 0 words at p, the first one in lanes beyond the last. */
LANES_INLINE vhi vhi_load_some(const u32 *p, size_t n) {
    (void)n; /* a multiple of 8 */
    return vhi_load(p);
}
LANES_INLINE vhi vhi_right(vhi q, u32 n) {
    return _mm256_srlv_epi32(q, vhi_all((i32)n));
}
LANES_INLINE vhi vhi_and(vhi q, i32 mask) {
    return _mm256_and_si256(q, vhi_all(mask));
}
LANES_INLINE vhi vhi_add(vhi a, vhi b) {
    return _mm256_add_epi32(a, b);
}
LANES_INLINE vhi vhi_count(void) { /* 0, 1, 2 ... */
    return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
}
LANES_INLINE vh vhi_floats(vhi q) {
    return _mm256_cvtepi32_ps(q);
}
LANES_INLINE vhi vhi_pick(vhm m, vhi yes, vhi no) {
    return _mm256_castps_si256(vh_pick(m, _mm256_castsi256_ps(yes), _mm256_castsi256_ps(no)));
}
/* The least of all lanes, none of them a NaN. */
LANES_INLINE float vh_least(vh x) {
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
}

#endif
#endif
