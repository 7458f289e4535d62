/* SPDX-License-Identifier: Apache-2.0 */
/* map_avx2.c: the element-by-element kernels with AVX2; NaN results become LB_NAN_BITS. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_map_avx2(lb_kernels *k);

static inline void put(float *out, __m256 x) {
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(LB_NAN_BITS));
    _mm256_storeu_ps(out, _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

/* A loop over `value` of x = a[i ..] (and y = b[i ..], or c); the rest is the reference's. */
#define MAP(load_y, value, rest)                 \
    size_t i = 0;                                \
    for (; i + 8 <= n_elems; i += 8) {           \
        const __m256 x = _mm256_loadu_ps(a + i); \
        load_y put(out + i, value);              \
    }                                            \
    rest
#define MAP1(ref, value) MAP(, value, ref(n_elems - i, out + i, a + i);)
#define MAP2(ref, value) \
    MAP(const __m256 y = _mm256_loadu_ps(b + i);, value, ref(n_elems - i, out + i, a + i, b + i);)
#define MAPC(ref, value) MAP(, value, ref(n_elems - i, out + i, a + i, c);)

static void add(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_add_f32_ref, _mm256_add_ps(x, y))
}

static void sub(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_sub_f32_ref, _mm256_sub_ps(x, y))
}

static void mul(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_mul_f32_ref, _mm256_mul_ps(x, y))
}

static void addc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_addc_f32_ref, _mm256_add_ps(x, _mm256_set1_ps(c)))
}

static void mulc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_mulc_f32_ref, _mm256_mul_ps(x, _mm256_set1_ps(c)))
}

static void divc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_divc_f32_ref, _mm256_div_ps(x, _mm256_set1_ps(c)))
}

static inline __m256 magnitude(__m256 x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

static inline __m256 or_one_of(__m256 x) {
    const __m256 zero = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_EQ_OQ);
    return _mm256_blendv_ps(x, _mm256_set1_ps(1.0f), zero);
}

static inline __m256 agree_of(__m256 x, __m256 y) {
    const __m256 zero = _mm256_setzero_ps();
    const __m256 up = _mm256_cmp_ps(y, zero, _CMP_GE_OQ);
    const __m256 same = _mm256_blendv_ps(_mm256_cmp_ps(x, zero, _CMP_LT_OQ),
                                         _mm256_cmp_ps(x, zero, _CMP_GT_OQ), up);
    return _mm256_and_ps(same, _mm256_set1_ps(1.0f));
}

static void divide(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_div_f32_ref, _mm256_div_ps(x, y))
}

static void rdivc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_rdivc_f32_ref, _mm256_div_ps(_mm256_set1_ps(c), x))
}

static void maxc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_maxc_f32_ref, _mm256_max_ps(_mm256_set1_ps(c), x))
}

static void minc(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_minc_f32_ref, _mm256_min_ps(_mm256_set1_ps(c), x))
}

static void abs_of(size_t n_elems, float *out, const float *a) {
    MAP1(lb_k_map_abs_f32_ref, magnitude(x))
}

static void above(size_t n_elems, float *out, const float *a, float c) {
    MAPC(lb_k_map_above_f32_ref,
         _mm256_and_ps(_mm256_cmp_ps(magnitude(x), _mm256_set1_ps(c), _CMP_GT_OQ),
                       _mm256_set1_ps(1.0f)))
}

static void keep(size_t n_elems, float *out, const float *a, i32 above_bits, i32 up_to) {
    const __m256i lo = _mm256_set1_epi32(above_bits), hi = _mm256_set1_epi32(up_to);
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256 x = _mm256_loadu_ps(a + i);
        const __m256i bits = _mm256_castps_si256(magnitude(x));
        const __m256i in =
            _mm256_andnot_si256(_mm256_cmpgt_epi32(bits, hi), _mm256_cmpgt_epi32(bits, lo));
        const __m256 one = _mm256_and_ps(_mm256_castsi256_ps(in), _mm256_set1_ps(1.0f));
        put(out + i, _mm256_mul_ps(x, one));
    }
    lb_k_map_keep_f32_ref(n_elems - i, out + i, a + i, above_bits, up_to);
}

static void or_one(size_t n_elems, float *out, const float *a) {
    MAP1(lb_k_map_or_one_f32_ref, or_one_of(x))
}

static void agree(size_t n_elems, float *out, const float *a, const float *b) {
    MAP2(lb_k_map_agree_f32_ref, agree_of(x, y))
}

static void below(size_t n_elems, float *out, const float *a, const float *b) {
    const __m256 one = _mm256_set1_ps(1.0f);
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8)
        _mm256_storeu_ps(out + i,
                         _mm256_and_ps(one, _mm256_cmp_ps(_mm256_loadu_ps(a + i),
                                                          _mm256_loadu_ps(b + i), _CMP_LT_OQ)));
    lb_k_map_below_f32_ref(n_elems - i, out + i, a + i, b + i);
}

static void fmac(size_t n_elems, float *out, const float *a, float c, const float *b) {
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8)
        put(out + i,
            _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_set1_ps(c), _mm256_loadu_ps(b + i)));
    lb_k_map_fmac_f32_ref(n_elems - i, out + i, a + i, c, b + i);
}

static void round_f16(size_t n_elems, float *out, const float *a) {
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(a + i), _MM_FROUND_TO_NEAREST_INT);
        put(out + i, _mm256_cvtph_ps(h));
    }
    lb_k_map_round_f16_f32_ref(n_elems - i, out + i, a + i);
}

static void round_bf16(size_t n_elems, float *out, const float *a) {
    const __m256i nan_bits = _mm256_set1_epi32(LB_NAN_BITS);
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256 x = _mm256_loadu_ps(a + i);
        const __m256i bits = _mm256_castps_si256(x);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256i r = _mm256_and_si256(up, _mm256_set1_epi32((int)0xffff0000u));
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_blendv_epi8(r, nan_bits, nan)));
    }
    lb_k_map_round_bf16_f32_ref(n_elems - i, out + i, a + i);
}

void lb_kinit_map_avx2(lb_kernels *k) {
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
