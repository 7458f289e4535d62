/* SPDX-License-Identifier: Apache-2.0 */
/* quant_avx512.h: the words of quant_tmpl.h in AVX-512. */
#ifndef LB_KERNEL_QUANT_AVX512_H
#define LB_KERNEL_QUANT_AVX512_H
#ifdef __AVX512BW__
#include "kernel/quant_mlx.h"
#include <immintrin.h>

enum { V_LANES = 16 };
typedef __m512 vec;
typedef __m512i vint;
typedef __mmask16 vmask;

static inline vec v_set(float x) {
    return _mm512_set1_ps(x);
}
static inline vec v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void v_put(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}
static inline vec v_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}
static inline vec v_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}
static inline vec v_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}
static inline vec v_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}
static inline vec v_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* a < b ? a : b, and a > b ? a : b: the second where one is NaN */
static inline vec v_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}
static inline vec v_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}
static inline vec v_floor(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
static inline vec v_ceil(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
static inline vec v_trunc(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
static inline vec v_rint(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vmask v_gt(vec a, vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
static inline vmask v_eq(vec a, vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
/* One bit a lane. */
static inline u32 v_mask_bits(vmask m) {
    return m;
}
static inline bool v_any_nan(vec x) {
    return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0;
}
static inline vec v_pick(vmask m, vec yes, vec no) {
    return _mm512_mask_mov_ps(no, m, yes);
}
static inline vint v_bits(vec x) {
    return _mm512_castps_si512(x);
}
static inline vec v_floats(vint x) {
    return _mm512_castsi512_ps(x);
}
static inline vint vi_set(u32 x) {
    return _mm512_set1_epi32((int)x);
}
static inline vint vi_add(vint a, vint b) {
    return _mm512_add_epi32(a, b);
}
static inline vint vi_sub(vint a, vint b) {
    return _mm512_sub_epi32(a, b);
}
static inline vint vi_and(vint a, vint b) {
    return _mm512_and_si512(a, b);
}
static inline vint vi_or(vint a, vint b) {
    return _mm512_or_si512(a, b);
}
static inline vint vi_xor(vint a, vint b) {
    return _mm512_xor_si512(a, b);
}
static inline vint vi_min(vint a, vint b) {
    return _mm512_min_epi32(a, b);
}
static inline vint vi_max(vint a, vint b) {
    return _mm512_max_epi32(a, b);
}
#define vi_srl(x, n) _mm512_srli_epi32(x, n)
#define vi_sra(x, n) _mm512_srai_epi32(x, n)
#define vi_sll(x, n) _mm512_slli_epi32(x, n)
static inline vmask vi_gt(vint a, vint b) {
    return _mm512_cmpgt_epi32_mask(a, b);
}
static inline vint vi_pick(vmask m, vint yes, vint no) {
    return _mm512_mask_mov_epi32(no, m, yes);
}
/* To the nearest, ties to even; NaN becomes what the packing to bytes makes 0. */
static inline vint v_to_int(vec x) {
    return _mm512_cvtps_epi32(x);
}
static inline vint v_to_int_trunc(vec x) {
    return _mm512_cvttps_epi32(x);
}

static inline vec v_load_f32(const u8 *p) {
    return _mm512_loadu_ps(p);
}
static inline vec v_load_bf16(const u8 *p) {
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return v_floats(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
static inline vec v_load_f16(const u8 *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vec v_round_f16(vec x) {
    return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* Two bytes a lane: the upper halves, and f16. */
static inline void v_put_high(u8 *p, vec x) {
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(v_bits(x), 16)));
}
static inline void v_put_f16(u8 *p, vec x) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* The smallest lane of lo and the largest of hi: both at once, since -min = max of the negated. */
static inline void v_reduce(vec lo, vec hi, float *out_lo, float *out_hi) {
    const vec neg = _mm512_xor_ps(lo, v_set(-0.0f));
    vec t = _mm512_max_ps(_mm512_shuffle_f32x4(hi, neg, 0x44), _mm512_shuffle_f32x4(hi, neg, 0xee));
    t = _mm512_max_ps(t, _mm512_shuffle_f32x4(t, t, 0xb1));
    t = _mm512_max_ps(t, _mm512_permute_ps(t, 0x4e));
    t = _mm512_max_ps(t, _mm512_permute_ps(t, 0xb1));
    _mm_store_ss(out_hi, _mm512_castps512_ps128(t));
    _mm_store_ss(out_lo, _mm_xor_ps(_mm512_extractf32x4_ps(t, 2), _mm_set1_ps(-0.0f)));
}
static inline i32 vi_reduce_max(vint x) {
    return _mm512_reduce_max_epi32(x);
}

#endif
#endif
