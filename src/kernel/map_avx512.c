/* SPDX-License-Identifier: Apache-2.0 */
/* map_avx512.c: the element-by-element kernels with AVX-512, rests under masks; NaN results become
 * LB_NAN_BITS. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_map_avx512(lb_kernels *k);

static inline __m512 canon(__m512 x) {
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(x, nan, _mm512_castsi512_ps(_mm512_set1_epi32(LB_NAN_BITS)));
}

/* A loop over `value` of x = a[i ..], y = b[i ..]; kernels of one input pass it twice. */
#define MAP(value)                                                           \
    size_t i = 0;                                                            \
    for (; i + 16 <= n_elems; i += 16) {                                     \
        const __m512 x = _mm512_loadu_ps(a + i), y = _mm512_loadu_ps(b + i); \
        (void)y;                                                             \
        _mm512_storeu_ps(out + i, canon(value));                             \
    }                                                                        \
    if (i < n_elems) {                                                       \
        const __mmask16 m = (__mmask16)((1u << (n_elems - i)) - 1);          \
        const __m512 x = _mm512_maskz_loadu_ps(m, a + i);                    \
        const __m512 y = _mm512_maskz_loadu_ps(m, b + i);                    \
        (void)y;                                                             \
        _mm512_mask_storeu_ps(out + i, m, canon(value));                     \
    }

static void add(size_t n_elems, float *out, const float *a, const float *b) {
    MAP(_mm512_add_ps(x, y))
}

static void sub(size_t n_elems, float *out, const float *a, const float *b) {
    MAP(_mm512_sub_ps(x, y))
}

static void mul(size_t n_elems, float *out, const float *a, const float *b) {
    MAP(_mm512_mul_ps(x, y))
}

static void addc(size_t n_elems, float *out, const float *a, float c) {
    const float *const b = a;
    const __m512 c16 = _mm512_set1_ps(c);
    MAP(_mm512_add_ps(x, c16))
}

static void mulc(size_t n_elems, float *out, const float *a, float c) {
    const float *const b = a;
    const __m512 c16 = _mm512_set1_ps(c);
    MAP(_mm512_mul_ps(x, c16))
}

static void divc(size_t n_elems, float *out, const float *a, float c) {
    const float *const b = a;
    const __m512 c16 = _mm512_set1_ps(c);
    MAP(_mm512_div_ps(x, c16))
}

static void divide(size_t n_elems, float *out, const float *a, const float *b) {
    MAP(_mm512_div_ps(x, y))
}

static void rdivc(size_t n_elems, float *out, const float *a, float c) {
    const float *const b = a;
    const __m512 c16 = _mm512_set1_ps(c);
    MAP(_mm512_div_ps(c16, x))
}

static void maxc(size_t n_elems, float *out, const float *a, float c) {
    const float *const b = a;
    const __m512 c16 = _mm512_set1_ps(c);
    MAP(_mm512_max_ps(c16, x))
}

static void minc(size_t n_elems, float *out, const float *a, float c) {
    const float *const b = a;
    const __m512 c16 = _mm512_set1_ps(c);
    MAP(_mm512_min_ps(c16, x))
}

static void abs_of(size_t n_elems, float *out, const float *a) {
    const float *const b = a;
    MAP(_mm512_abs_ps(x))
}

static inline __m512 one_where(__mmask16 m) {
    return _mm512_maskz_mov_ps(m, _mm512_set1_ps(1.0f));
}

static void above(size_t n_elems, float *out, const float *a, float c) {
    const float *const b = a;
    const __m512 c16 = _mm512_set1_ps(c);
    MAP(one_where(_mm512_cmp_ps_mask(_mm512_abs_ps(x), c16, _CMP_GT_OQ)))
}

static void keep(size_t n_elems, float *out, const float *a, i32 above_bits, i32 up_to) {
    const float *const b = a;
    const __m512i lo = _mm512_set1_epi32(above_bits), hi = _mm512_set1_epi32(up_to);
#define BITS(x) _mm512_castps_si512(_mm512_abs_ps(x))
    MAP(_mm512_mul_ps(
        x, one_where(_mm512_cmpgt_epi32_mask(BITS(x), lo) & _mm512_cmple_epi32_mask(BITS(x), hi))))
#undef BITS
}

static void or_one(size_t n_elems, float *out, const float *a) {
    const float *const b = a;
    const __m512 one = _mm512_set1_ps(1.0f);
    MAP(_mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ), one))
}

static inline __m512 agree_of(__m512 x, __m512 y) {
    const __m512 zero = _mm512_setzero_ps();
    const __mmask16 up = _mm512_cmp_ps_mask(y, zero, _CMP_GE_OQ);
    const __mmask16 gt = _mm512_cmp_ps_mask(x, zero, _CMP_GT_OQ);
    const __mmask16 lt = _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ);
    return one_where((__mmask16)((up & gt) | (lt & (__mmask16)~up)));
}

static void agree(size_t n_elems, float *out, const float *a, const float *b) {
    MAP(agree_of(x, y))
}

static void below(size_t n_elems, float *out, const float *a, const float *b) {
    MAP(one_where(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ)))
}

static void fmac(size_t n_elems, float *out, const float *a, float c, const float *b) {
    const __m512 c16 = _mm512_set1_ps(c);
    MAP(_mm512_fmadd_ps(x, c16, y))
}

static void round_f16(size_t n_elems, float *out, const float *a) {
    const float *const b = a;
    MAP(_mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)))
}

/* NaN is looked for in x: the sum may have made another thing of it. */
static inline __m512 to_bf16(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i r = _mm512_and_si512(up, _mm512_set1_epi32((int)0xffff0000u));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(r, nan, _mm512_set1_epi32(LB_NAN_BITS)));
}

static void round_bf16(size_t n_elems, float *out, const float *a) {
    const float *const b = a;
    MAP(to_bf16(x))
}

void lb_kinit_map_avx512(lb_kernels *k) {
    k->map_add_f32 = add;
    k->map_sub_f32 = sub;
    k->map_mul_f32 = mul;
    k->map_addc_f32 = addc;
    k->map_mulc_f32 = mulc;
    k->map_divc_f32 = divc;
    k->map_div_f32 = divide;
    k->map_rdivc_f32 = rdivc;
    k->map_maxc_f32 = maxc;
    k->map_minc_f32 = minc;
    k->map_abs_f32 = abs_of;
    k->map_above_f32 = above;
    k->map_keep_f32 = keep;
    k->map_or_one_f32 = or_one;
    k->map_agree_f32 = agree;
    k->map_below_f32 = below;
    k->map_fmac_f32 = fmac;
    k->map_round_f16_f32 = round_f16;
    k->map_round_bf16_f32 = round_bf16;
}
