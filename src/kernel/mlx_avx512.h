/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_avx512.h: the arithmetic of MLX's affine groups, sixteen values at a time. */
#ifndef LB_KERNEL_MLX_AVX512_H
#define LB_KERNEL_MLX_AVX512_H
#ifdef __AVX512BW__

#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx512.h"

static inline bool lb_mlx_finite(float scale, float bias) {
    const u32 inf = 0x7f800000u;
    return (lb_f32_bits(scale) & inf) != inf && (lb_f32_bits(bias) & inf) != inf;
}

/* What the arithmetic of a group needs; kept in registers (lb_keep). */
typedef struct lb_mlx_const {
    __m512 n; /* 0 .. 15 */
    __m512i kept_bit, below_half, half, kept;
} lb_mlx_const;

static inline lb_mlx_const lb_mlx_consts(void) {
    const __m512i n = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (lb_mlx_const){.n = _mm512_cvtepi32_ps(lb_keep(n)),
                          .kept_bit = lb_keep(_mm512_set1_epi32(0x10000)),
                          .below_half = lb_keep(_mm512_set1_epi32(0x7fff)),
                          .half = lb_keep(_mm512_set1_epi32(0x8000)),
                          .kept = lb_keep(_mm512_set1_epi32((int)0xffff0000u))};
}

/* x is not NaN. To bf16: 0x7fff is added, or 0x8000 where the kept part is odd. */
static inline __m512 lb_mlx_round(__m512 x, u32 type, const lb_mlx_const *c) {
    if (type == LB_ROUND_F16)
        return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    if (type != LB_ROUND_BF16)
        return x;
    const __m512i bits = _mm512_castps_si512(x);
    const __mmask16 odd = _mm512_test_epi32_mask(bits, c->kept_bit);
    const __m512i even_up = _mm512_add_epi32(bits, c->below_half);
    const __m512i up = _mm512_mask_add_epi32(even_up, odd, bits, c->half);
    return _mm512_castsi512_ps(_mm512_and_si512(up, c->kept));
}

static inline __m512 lb_mlx_value(__m512 code, __m512 scale, __m512 bias, u32 round,
                                  const lb_mlx_const *c) {
    const __m512 product = lb_mlx_round(_mm512_mul_ps(code, scale), round & 15, c);
    return lb_mlx_round(_mm512_add_ps(product, bias), round >> 4, c);
}

/* A group's values of codes 0 .. 15. */
static inline __m512 lb_mlx_values(float scale, float bias, u32 round, const lb_mlx_const *c) {
    return lb_mlx_value(c->n, _mm512_set1_ps(scale), _mm512_set1_ps(bias), round, c);
}

/* NaN in its one form. */
static inline __m512 lb_mlx_canon(__m512 x) {
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(x, nan, _mm512_castsi512_ps(_mm512_set1_epi32(LB_NAN_BITS)));
}

/* decode_q<bits> from what writes one group with finite scale and bias; `round` is a constant in
 * the two loops that matter. */
#define LB_MLX_DECODE(bits, put)                                                                   \
    __attribute__((always_inline)) static inline void groups_q##bits(                              \
        size_t n_groups, size_t group_elems, float *out, const u8 *p, const float *scale,          \
        const float *bias, u32 round) {                                                            \
        const lb_mlx_const c = lb_mlx_consts();                                                    \
        for (size_t g = 0; g < n_groups; g++, p += group_elems / 8 * bits, out += group_elems)     \
            if (lb_mlx_finite(scale[g], bias[g]))                                                  \
                put(out, p, group_elems, scale[g], bias[g], round, &c);                            \
            else                                                                                   \
                lb_k_decode_f32_mlx_q##bits##_ref(1, group_elems, out, p, scale + g, bias + g,     \
                                                  round);                                          \
    }                                                                                              \
    static void decode_q##bits(size_t n_groups, size_t group_elems, float *out, const void *codes, \
                               const float *scale, const float *bias, u32 round) {                 \
        const u32 both_bf16 = LB_MLX_ROUND(LB_ROUND_BF16, LB_ROUND_BF16);                          \
        const u32 both_f16 = LB_MLX_ROUND(LB_ROUND_F16, LB_ROUND_F16);                             \
        if (round == both_bf16)                                                                    \
            groups_q##bits(n_groups, group_elems, out, codes, scale, bias, both_bf16);             \
        else if (round == both_f16)                                                                \
            groups_q##bits(n_groups, group_elems, out, codes, scale, bias, both_f16);              \
        else                                                                                       \
            groups_q##bits(n_groups, group_elems, out, codes, scale, bias, round);                 \
    }

#endif
#endif
