/* SPDX-License-Identifier: Apache-2.0 */
/* quant_lanes_avx512.h: the vectors of quant_lanes.h: 16 floats (quant_lanes_avx2.h says what
 * each function does). */
#ifndef LB_KERNEL_QUANT_LANES_AVX512_H
#define LB_KERNEL_QUANT_LANES_AVX512_H
#ifdef __AVX512BW__

#include "base/base.h"
#include <immintrin.h>

#define LANES_INLINE __attribute__((always_inline)) static inline

enum { HALF = 16 };
typedef __m512 vh;
typedef __m512i vhi;
typedef __mmask16 vhm;

LANES_INLINE vh vh_all(float x) {
    return _mm512_set1_ps(x);
}
LANES_INLINE vh vh_load(const float *p) {
    return _mm512_loadu_ps(p);
}
LANES_INLINE void vh_store(float *p, vh v) {
    _mm512_storeu_ps(p, v);
}
LANES_INLINE vh vh_min(vh a, vh b) {
    return _mm512_min_ps(a, b);
}
LANES_INLINE vh vh_max(vh a, vh b) {
    return _mm512_max_ps(a, b);
}
LANES_INLINE vh vh_sqrt(vh a) {
    return _mm512_sqrt_ps(a);
}
LANES_INLINE vh vh_abs(vh a) {
    return _mm512_abs_ps(a);
}
LANES_INLINE vh vh_neg(vh a) {
    return _mm512_xor_ps(_mm512_set1_ps(-0.0f), a);
}
LANES_INLINE vhm vh_less(vh a, vh b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
LANES_INLINE vhm vh_equal(vh a, vh b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
LANES_INLINE vhm vhm_and(vhm a, vhm b) {
    return (vhm)(a & b);
}
LANES_INLINE vhm vhm_or(vhm a, vhm b) {
    return (vhm)(a | b);
}
LANES_INLINE u32 vhm_bits(vhm m) {
    return m;
}
LANES_INLINE vh vh_pick(vhm m, vh yes, vh no) {
    return _mm512_mask_blend_ps(m, no, yes);
}
LANES_INLINE vh vh_add_unless(vhm m, vh a, vh b) {
    return _mm512_mask_add_ps(a, (vhm)~m, a, b);
}
LANES_INLINE vhi vh_pattern(vh x) {
    return _mm512_castps_si512(x);
}
LANES_INLINE vh vhi_as_floats(vhi q) {
    return _mm512_castsi512_ps(q);
}
LANES_INLINE vhi vhi_nearest(vh x) {
    const vh shifted = _mm512_add_ps(x, _mm512_set1_ps(12582912.0f));
    const vhi low = _mm512_and_si512(_mm512_castps_si512(shifted), _mm512_set1_epi32(0x7fffff));
    return _mm512_maskz_sub_epi32(_mm512_cmp_ps_mask(shifted, shifted, _CMP_ORD_Q), low,
                                  _mm512_set1_epi32(0x400000));
}
LANES_INLINE vhi vhi_clamp(vhi q, i32 lo, i32 hi) {
    return _mm512_max_epi32(_mm512_min_epi32(q, _mm512_set1_epi32(hi)), _mm512_set1_epi32(lo));
}
LANES_INLINE void vhi_store_bytes(u8 *p, vhi q, i32 bias) {
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(bias))));
}

LANES_INLINE void half_transpose(float *out, size_t step, const float *const src[16], size_t n) {
    for (size_t i = 0; i < n; i += 16, out += 16 * step) {
        vh t[16];
        for (size_t k = 0; k < 16; k += 4) { /* 4 x 4 in each quarter of the registers */
            const vh r0 = vh_load(src[k] + i), r1 = vh_load(src[k + 1] + i);
            const vh r2 = vh_load(src[k + 2] + i), r3 = vh_load(src[k + 3] + i);
            const vh a = _mm512_unpacklo_ps(r0, r1), b = _mm512_unpackhi_ps(r0, r1);
            const vh c = _mm512_unpacklo_ps(r2, r3), d = _mm512_unpackhi_ps(r2, r3);
            t[k] = _mm512_shuffle_ps(a, c, 0x44);
            t[k + 1] = _mm512_shuffle_ps(a, c, 0xee);
            t[k + 2] = _mm512_shuffle_ps(b, d, 0x44);
            t[k + 3] = _mm512_shuffle_ps(b, d, 0xee);
        }
        for (size_t k = 0; k < 4; k++) { /* then the quarters: rows k, k + 4, k + 8, k + 12 */
            const vh ab02 = _mm512_shuffle_f32x4(t[k], t[k + 4], 0x88);
            const vh ab13 = _mm512_shuffle_f32x4(t[k], t[k + 4], 0xdd);
            const vh cd02 = _mm512_shuffle_f32x4(t[k + 8], t[k + 12], 0x88);
            const vh cd13 = _mm512_shuffle_f32x4(t[k + 8], t[k + 12], 0xdd);
            vh_store(out + step * k, _mm512_shuffle_f32x4(ab02, cd02, 0x88));
            vh_store(out + step * (k + 4), _mm512_shuffle_f32x4(ab13, cd13, 0x88));
            vh_store(out + step * (k + 8), _mm512_shuffle_f32x4(ab02, cd02, 0xdd));
            vh_store(out + step * (k + 12), _mm512_shuffle_f32x4(ab13, cd13, 0xdd));
        }
    }
}

typedef __m512 vt; /* twice the eight */

LANES_INLINE vt vt_load(const float *p) {
    return _mm512_broadcast_f32x8(_mm256_loadu_ps(p));
}
LANES_INLINE vt vt_errors(vt values, float scale, float x, float w) {
    const vt d = _mm512_set1_ps(scale) * values - _mm512_set1_ps(x);
    return _mm512_set1_ps(w) * d * d;
}
LANES_INLINE vh vt_at(vt t, vhi i) {
    return _mm512_permutexvar_ps(i, t);
}
LANES_INLINE vhi vhi_all(i32 q) {
    return _mm512_set1_epi32(q);
}
LANES_INLINE vhi vhi_load(const void *p) {
    return _mm512_loadu_si512(p);
}
LANES_INLINE void vhi_store(void *p, vhi q) {
    _mm512_storeu_si512(p, q);
}
LANES_INLINE vhi vhi_load_some(const u32 *p, size_t n) {
    return _mm512_mask_loadu_epi32(vhi_all((i32)*p), (vhm)(n < 16 ? (1u << n) - 1 : 0xffff), p);
}
LANES_INLINE vhi vhi_right(vhi q, u32 n) {
    return _mm512_srlv_epi32(q, vhi_all((i32)n));
}
LANES_INLINE vhi vhi_and(vhi q, i32 mask) {
    return _mm512_and_si512(q, vhi_all(mask));
}
LANES_INLINE vhi vhi_add(vhi a, vhi b) {
    return _mm512_add_epi32(a, b);
}
LANES_INLINE vhi vhi_count(void) {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
LANES_INLINE vh vhi_floats(vhi q) {
    return _mm512_cvtepi32_ps(q);
}
LANES_INLINE vhi vhi_pick(vhm m, vhi yes, vhi no) {
    return _mm512_mask_blend_epi32(m, no, yes);
}
LANES_INLINE float vh_least(vh x) {
    return _mm512_reduce_min_ps(x);
}

#endif
#endif
