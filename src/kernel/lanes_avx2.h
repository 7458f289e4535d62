/* SPDX-License-Identifier: Apache-2.0 */
/* lanes_avx2.h: the words of nn_math_tmpl.h and nn_tmpl.h in registers of 8 floats and 4 doubles.
 */
#if !defined(LB_KERNEL_LANES_AVX2_H) && defined(__AVX2__)
#define LB_KERNEL_LANES_AVX2_H
#include "base/base.h"
#include <immintrin.h>

typedef __m256 vf;
typedef __m256d vd;
#define VF_LANES 8
#define VD_LANES 4
#define vf_load(p) _mm256_loadu_ps(p)
#define vf_store(p, x) _mm256_storeu_ps(p, x)
#define vf_set(x) _mm256_set1_ps(x)
#define vf_add(a, b) _mm256_add_ps(a, b)
#define vf_sub(a, b) _mm256_sub_ps(a, b)
#define vf_mul(a, b) _mm256_mul_ps(a, b)
#define vf_div(a, b) _mm256_div_ps(a, b)
#define vf_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vf_fnma(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define vf_max(a, b) _mm256_max_ps(a, b)
#define vf_min(a, b) _mm256_min_ps(a, b)
#define vf_abs(x) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)
#define vd_set(x) _mm256_set1_pd(x)
#define vd_add(a, b) _mm256_add_pd(a, b)
#define vd_sub(a, b) _mm256_sub_pd(a, b)
#define vd_fma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define vd_store(p, x) _mm256_storeu_pd(p, x)
#define vd_load_f32(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
#define vd_mul(a, b) _mm256_mul_pd(a, b)
#define vd_max(a, b) _mm256_max_pd(a, b)
#define vd_min(a, b) _mm256_min_pd(a, b)
#define vd_above(x, lo, e) _mm256_and_pd(e, _mm256_cmp_pd(x, lo, _CMP_GT_OQ))

static inline vd vd_powers(vd t, vd *a, vd *b) {
    const __m128i k = _mm256_cvttpd_epi32(_mm256_sub_pd(t, _mm256_set1_pd(0.5)));
    const __m128i h = _mm_srai_epi32(k, 1), bias = _mm_set1_epi32(1023);
    const __m256i x = _mm256_cvtepi32_epi64(_mm_add_epi32(h, bias));
    const __m256i y = _mm256_cvtepi32_epi64(_mm_add_epi32(_mm_sub_epi32(k, h), bias));
    *a = _mm256_castsi256_pd(_mm256_slli_epi64(x, 52));
    *b = _mm256_castsi256_pd(_mm256_slli_epi64(y, 52));
    return _mm256_cvtepi32_pd(k);
}

static inline vf vf_below0(vf x, vf a, vf b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}

static inline vf vf_copysign(vf a, vf b) {
    const vf sign = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b));
}

static inline vf vf_scale(vf p, vf m) {
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256i n =
        _mm256_sub_epi32(_mm256_castps_si256(m), _mm256_castps_si256(_mm256_set1_ps(0x1.8p23f)));
    const __m256i first = _mm256_srai_epi32(n, 1), rest = _mm256_sub_epi32(n, first);
    const vf a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23));
    const vf b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(p, a), b);
}

static inline vf vf_canon(vf x) {
    const vf nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    return _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

static inline void vd_add_vf(vd *d, vf x) {
    d[0] = _mm256_add_pd(d[0], _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    d[1] = _mm256_add_pd(d[1], _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}

static inline vf vf_twice(const float *p) {
    const __m256i at = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), at);
}

static inline vf vf_swap(vf x, const int h) {
    return h == 1   ? _mm256_permute_ps(x, 0xb1)
           : h == 2 ? _mm256_permute_ps(x, 0x4e)
                    : _mm256_permute2f128_ps(x, x, 1);
}

/* Lanes 0..3 and 4..7 of the same tap: a transposition of 4 x 4 in each half. */
static inline void vf_taps4(const float *p, vf w[4]) {
#define PAIR(i)                                                             \
    _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 4 * (i))), \
                         _mm_loadu_ps(p + 4 * (i) + 16), 1)
    const vf a = PAIR(0), b = PAIR(1), c = PAIR(2), d = PAIR(3);
#undef PAIR
    const vf ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
    const vf ab_hi = _mm256_unpackhi_ps(a, b), cd_hi = _mm256_unpackhi_ps(c, d);
    w[0] = _mm256_shuffle_ps(ab, cd, 0x44);
    w[1] = _mm256_shuffle_ps(ab, cd, 0xee);
    w[2] = _mm256_shuffle_ps(ab_hi, cd_hi, 0x44);
    w[3] = _mm256_shuffle_ps(ab_hi, cd_hi, 0xee);
}

/* ---- attend_tmpl.h ---- */

#define vf_half(p) _mm256_set1_ps(_cvtsh_ss(lb_load_u16(p)))
#define vf_load_f16(p) _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p)))
#define vf_load_i8(p) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(p))))

static inline vf vf_load_q4(const u8 *p, const bool upper, vf d) {
    const __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    const __m256i c = upper ? _mm256_srli_epi32(b, 4) : _mm256_and_si256(b, _mm256_set1_epi32(15));
    return vf_mul(d, _mm256_cvtepi32_ps(_mm256_sub_epi32(c, _mm256_set1_epi32(8))));
}

static inline float vf_fold16(const vf x[2]) {
    const vf a = _mm256_add_ps(x[0], x[1]);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* vf_fold16 of four at once: what is added to what is the same. */
static inline void vf_folds4(float *out, const vf a[2], const vf b[2], const vf c[2],
                             const vf d[2]) {
    const vf p = vf_add(a[0], a[1]), q = vf_add(b[0], b[1]);
    const vf r = vf_add(c[0], c[1]), s = vf_add(d[0], d[1]);
    /* halves: a, c and b, d */
    const vf ac = vf_add(_mm256_permute2f128_ps(p, r, 0x20), _mm256_permute2f128_ps(p, r, 0x31));
    const vf bd = vf_add(_mm256_permute2f128_ps(q, s, 0x20), _mm256_permute2f128_ps(q, s, 0x31));
    /* pairs, then ones: a, a, b, b | c, c, d, d */
    const vf x = vf_add(_mm256_shuffle_ps(ac, bd, 0x44), _mm256_shuffle_ps(ac, bd, 0xee));
    const vf y = vf_canon(vf_add(x, _mm256_permute_ps(x, 0xb1)));
    const __m256i at = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    _mm_storeu_ps(out, _mm256_castps256_ps128(_mm256_permutevar8x32_ps(y, at)));
}

#endif
