/* SPDX-License-Identifier: Apache-2.0 */
/* lanes_avx512.h: the words of nn_math_tmpl.h and nn_tmpl.h in registers of 16 floats and 8
 * doubles. */
#if !defined(LB_KERNEL_LANES_AVX512_H) && defined(__AVX512BW__)
#define LB_KERNEL_LANES_AVX512_H
#include "base/base.h"
#include <immintrin.h>

typedef __m512 vf;
typedef __m512d vd;
#define VF_LANES 16
#define VD_LANES 8
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_store(p, x) _mm512_storeu_ps(p, x)
#define vf_set(x) _mm512_set1_ps(x)
#define vf_add(a, b) _mm512_add_ps(a, b)
#define vf_sub(a, b) _mm512_sub_ps(a, b)
#define vf_mul(a, b) _mm512_mul_ps(a, b)
#define vf_div(a, b) _mm512_div_ps(a, b)
#define vf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vf_fnma(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define vf_max(a, b) _mm512_max_ps(a, b)
#define vf_min(a, b) _mm512_min_ps(a, b)
#define vf_abs(x) _mm512_abs_ps(x)
#define vd_set(x) _mm512_set1_pd(x)
#define vd_add(a, b) _mm512_add_pd(a, b)
#define vd_sub(a, b) _mm512_sub_pd(a, b)
#define vd_fma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define vd_store(p, x) _mm512_storeu_pd(p, x)
#define vd_load_f32(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
#define vd_mul(a, b) _mm512_mul_pd(a, b)
#define vd_max(a, b) _mm512_max_pd(a, b)
#define vd_min(a, b) _mm512_min_pd(a, b)
#define vd_above(x, lo, e) _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, lo, _CMP_GT_OQ), e)

static inline vd vd_powers(vd t, vd *a, vd *b) {
    const __m256i k = _mm512_cvttpd_epi32(_mm512_sub_pd(t, _mm512_set1_pd(0.5)));
    const __m256i h = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(1023);
    const __m512i x = _mm512_cvtepi32_epi64(_mm256_add_epi32(h, bias));
    const __m512i y = _mm512_cvtepi32_epi64(_mm256_add_epi32(_mm256_sub_epi32(k, h), bias));
    *a = _mm512_castsi512_pd(_mm512_slli_epi64(x, 52));
    *b = _mm512_castsi512_pd(_mm512_slli_epi64(y, 52));
    return _mm512_cvtepi32_pd(k);
}

static inline vf vf_below0(vf x, vf a, vf b) {
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), a);
}

static inline vf vf_copysign(vf a, vf b) { /* b where the sign's bit is, else a */
    const __m512i sign = _mm512_set1_epi32((int)0x80000000u);
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(sign, _mm512_castps_si512(b), _mm512_castps_si512(a), 0xca));
}

static inline vf vf_scale(vf p, vf m) {
    return _mm512_scalef_ps(p, _mm512_sub_ps(m, _mm512_set1_ps(0x1.8p23f)));
}

static inline vf vf_canon(vf x) {
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(x, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}

static inline void vd_add_vf(vd *d, vf x) {
    d[0] = _mm512_add_pd(d[0], _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
    d[1] = _mm512_add_pd(d[1], _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
}

static inline vf vf_twice(const float *p) {
    const __m512i at = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    return _mm512_permutexvar_ps(at, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}

static inline vf vf_swap(vf x, const int h) {
    return h == 1   ? _mm512_permute_ps(x, 0xb1)
           : h == 2 ? _mm512_permute_ps(x, 0x4e)
           : h == 4 ? _mm512_shuffle_f32x4(x, x, 0xb1)
                    : _mm512_shuffle_f32x4(x, x, 0x4e);
}

/* Two taps of eight lanes from two registers, one in each half; then halves of the same tap. */
static inline void vf_taps4(const float *p, vf w[4]) {
    const __m512i t01 = _mm512_set_epi32(29, 25, 21, 17, 13, 9, 5, 1, 28, 24, 20, 16, 12, 8, 4, 0);
    const __m512i t23 = _mm512_add_epi32(t01, _mm512_set1_epi32(2));
    const vf a = vf_load(p), b = vf_load(p + 16), c = vf_load(p + 32), d = vf_load(p + 48);
    const vf ab = _mm512_permutex2var_ps(a, t01, b), cd = _mm512_permutex2var_ps(c, t01, d);
    const vf ab2 = _mm512_permutex2var_ps(a, t23, b), cd2 = _mm512_permutex2var_ps(c, t23, d);
    w[0] = _mm512_shuffle_f32x4(ab, cd, 0x44);
    w[1] = _mm512_shuffle_f32x4(ab, cd, 0xee);
    w[2] = _mm512_shuffle_f32x4(ab2, cd2, 0x44);
    w[3] = _mm512_shuffle_f32x4(ab2, cd2, 0xee);
}

/* ---- attend_tmpl.h ---- */

#define vf_half(p) _mm512_set1_ps(_cvtsh_ss(lb_load_u16(p)))
#define vf_load_f16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p)))
#define vf_load_i8(p) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(p))))

/* The 16 values of a block, of which vpermps takes one by the lowest four bits of a lane. */
static inline vf vf_load_q4(const u8 *p, const bool upper, vf d) {
    const vf codes = _mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8);
    const __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    return _mm512_permutexvar_ps(upper ? _mm512_srli_epi32(b, 4) : b, vf_mul(d, codes));
}

static inline float vf_fold16(const vf x[1]) {
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x[0]), _mm512_extractf32x8_ps(x[0], 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* vf_fold16 of four at once: what is added to what is the same. */
static inline void vf_fold4_to(float *out, vf a, vf b, vf c, vf d) {
    const vf ab = vf_add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    const vf cd = vf_add(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    vf s = vf_add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    s = vf_add(s, _mm512_permute_ps(s, 0x4e));
    s = vf_canon(vf_add(s, _mm512_permute_ps(s, 0xb1)));
    const __m512i at = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(at, s)));
}
#define vf_fold4 vf_fold4_to
#define vf_folds4(out, a, b, c, d) vf_fold4_to(out, (a)[0], (b)[0], (c)[0], (d)[0])

#endif
