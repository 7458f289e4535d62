/* SPDX-License-Identifier: Apache-2.0 */
/* quant_avx2.h: the words of quant_tmpl.h in AVX2. */
#ifndef LB_KERNEL_QUANT_AVX2_H
#define LB_KERNEL_QUANT_AVX2_H
#ifdef __AVX2__
#include "kernel/quant_mlx.h"
#include <immintrin.h>

enum { V_LANES = 8 };
typedef __m256 vec;
typedef __m256i vint;
typedef __m256i vmask; /* all ones or zeros in a lane */

static inline vint v_bits(vec x) {
    return _mm256_castps_si256(x);
}
static inline vec v_floats(vint x) {
    return _mm256_castsi256_ps(x);
}
static inline vec v_set(float x) {
    return _mm256_set1_ps(x);
}
static inline vec v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void v_put(float *p, vec x) {
    _mm256_storeu_ps(p, x);
}
static inline vec v_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}
static inline vec v_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}
static inline vec v_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}
static inline vec v_div(vec a, vec b) {
    return _mm256_div_ps(a, b);
}
static inline vec v_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}
/* a < b ? a : b, and a > b ? a : b: the second where one is NaN */
static inline vec v_min(vec a, vec b) {
    return _mm256_min_ps(a, b);
}
static inline vec v_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}
static inline vec v_floor(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
static inline vec v_ceil(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
static inline vec v_trunc(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
static inline vec v_rint(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vmask v_gt(vec a, vec b) {
    return v_bits(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
static inline vmask v_eq(vec a, vec b) {
    return v_bits(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}
/* One bit a lane. */
static inline u32 v_mask_bits(vmask m) {
    return (u32)_mm256_movemask_ps(v_floats(m));
}
static inline bool v_any_nan(vec x) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0;
}
static inline vec v_pick(vmask m, vec yes, vec no) {
    return _mm256_blendv_ps(no, yes, v_floats(m));
}
static inline vint vi_set(u32 x) {
    return _mm256_set1_epi32((int)x);
}
static inline vint vi_add(vint a, vint b) {
    return _mm256_add_epi32(a, b);
}
static inline vint vi_sub(vint a, vint b) {
    return _mm256_sub_epi32(a, b);
}
static inline vint vi_and(vint a, vint b) {
    return _mm256_and_si256(a, b);
}
static inline vint vi_or(vint a, vint b) {
    return _mm256_or_si256(a, b);
}
static inline vint vi_xor(vint a, vint b) {
    return _mm256_xor_si256(a, b);
}
static inline vint vi_min(vint a, vint b) {
    return _mm256_min_epi32(a, b);
}
static inline vint vi_max(vint a, vint b) {
    return _mm256_max_epi32(a, b);
}
#define vi_srl(x, n) _mm256_srli_epi32(x, n)
#define vi_sra(x, n) _mm256_srai_epi32(x, n)
#define vi_sll(x, n) _mm256_slli_epi32(x, n)
static inline vmask vi_gt(vint a, vint b) {
    return _mm256_cmpgt_epi32(a, b);
}
static inline vint vi_pick(vmask m, vint yes, vint no) {
    return _mm256_blendv_epi8(no, yes, m);
}
/* To the nearest, ties to even; NaN becomes what the packing to bytes makes 0. */
static inline vint v_to_int(vec x) {
    return _mm256_cvtps_epi32(x);
}
static inline vint v_to_int_trunc(vec x) {
    return _mm256_cvttps_epi32(x);
}

static inline vec v_load_f32(const u8 *p) {
    return _mm256_loadu_ps((const float *)(const void *)p);
}
static inline __m128i half_of(const u8 *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
static inline vec v_load_bf16(const u8 *p) {
    return v_floats(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half_of(p)), 16));
}
static inline vec v_load_f16(const u8 *p) {
    return _mm256_cvtph_ps(half_of(p));
}
static inline vec v_round_f16(vec x) {
    return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* Two bytes a lane: the upper halves, and f16. */
static inline void v_put_high(u8 *p, vec x) {
    const __m256i w = _mm256_srli_epi32(v_bits(x), 16);
    const __m128i h = _mm_packus_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
    _mm_storeu_si128((__m128i *)(void *)p, h);
}
static inline void v_put_f16(u8 *p, vec x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* The smallest lane of lo and the largest of hi: both at once, since -min = max of the negated. */
static inline void v_reduce(vec lo, vec hi, float *out_lo, float *out_hi) {
    const vec neg = _mm256_xor_ps(lo, v_set(-0.0f));
    vec t =
        _mm256_max_ps(_mm256_permute2f128_ps(hi, neg, 0x20), _mm256_permute2f128_ps(hi, neg, 0x31));
    t = _mm256_max_ps(t, _mm256_permute_ps(t, 0x4e));
    t = _mm256_max_ps(t, _mm256_permute_ps(t, 0xb1));
    _mm_store_ss(out_hi, _mm256_castps256_ps128(t));
    _mm_store_ss(out_lo, _mm_xor_ps(_mm256_extractf128_ps(t, 1), _mm_set1_ps(-0.0f)));
}
static inline i32 vi_reduce_max(vint x) {
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    return _mm_cvtsi128_si32(t);
}

#endif
#endif
