/* SPDX-License-Identifier: Apache-2.0 */
/* q8_mlx_tmpl.h: scales and biases of MLX's groups as floats, a chunk of a row at a time; part of
 * q8_rows_tmpl.h. */
#ifndef LB_KERNEL_Q8_MLX_TMPL_H
#define LB_KERNEL_Q8_MLX_TMPL_H

#include "kernel/q8_scales_avx512.h"
#include "kernel/q8_unit_vec.h"

/* n values of MLX's scales or biases, one for each 32 columns; behind them zeros. */
INLINE f32x8 eight_scales(const u8 *p, lb_dtype t) {
    f32x8 y;
    if (t == LB_F32) {
        memcpy(&y, p, sizeof y);
        return y;
    }
#if defined(__F16C__)
    const __m128i x = (__m128i)load16(p);
    return (f32x8)(t == LB_F16 ? _mm256_cvtph_ps(x)
                               : (__m256)_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
#else
    for (size_t i = 0; i < 8; i++)
        y[i] = t == LB_F16 ? f16_at(p + 2 * i) : lb_bf16_to_f32(lb_load_u16(p + 2 * i));
    return y;
#endif
}

INLINE void mlx_scales(float *s, const u8 *p, lb_dtype t, u32 group, size_t first, size_t n_cols) {
    const size_t size = t == LB_F32 ? 4 : 2,
                 n = LB_MIN((size_t)LB_Q8_CHUNK, n_cols - first) / group;
    u8 x[64] = {0};
    const u8 *from = p + first / group * size;
    if (n < LB_Q8_CHUNK / group || group == 128) {
        memcpy(x, from, n * size);
        from = x;
    }
    const f32x8 a = eight_scales(from, t);
    f32x8 lo = a, hi = a;
    if (group == 32) {
        hi = eight_scales(from + 8 * size, t);
    } else if (group == 64) {
        lo = __builtin_shufflevector(a, a, 0, 0, 1, 1, 2, 2, 3, 3);
        hi = __builtin_shufflevector(a, a, 4, 4, 5, 5, 6, 6, 7, 7);
    } else {
        lo = __builtin_shufflevector(a, a, 0, 0, 0, 0, 1, 1, 1, 1);
        hi = __builtin_shufflevector(a, a, 2, 2, 2, 2, 3, 3, 3, 3);
    }
    memcpy(s, &lo, sizeof lo);
    memcpy(s + 8, &hi, sizeof hi);
}

/* Of MLX's fp4 modes: E4M3 for each 16, E8M0 with Inf for each 32; halved, as codes are doubled. */
INLINE void fp4_scales(float *s, const u8 *p, u32 group, size_t first, size_t n_cols) {
    const size_t n = LB_MIN((size_t)LB_Q8_CHUNK, n_cols - first) / group;
    u8 last[32] = {0};
    p += first / group;
    if (n < LB_Q8_CHUNK / group)
        p = memcpy(last, p, n);
    for (size_t i = 0; i < LB_Q8_CHUNK / group; i += 8) {
        const i32x8 x = wide8(get8(p + i));
        i32x8 y, odd, value;
        if (group == 16) {
            y = (i32x8)((f32x8)((x & 127) << 20) * 0x1p119f) | (x & 128) << 24;
            odd = (x & 127) == 127;
            value = (i32)LB_NAN_BITS - (i32x8){0};
        } else {
            const i32x8 small = x < 2;
            y = (((x - 1) << 23) & ~small) | ((0x200000 + (x << 21)) & small);
            odd = x == 255;
            value = 0x7f800000 - (i32x8){0};
        }
        y = (y & ~odd) | (value & odd);
        memcpy(s + i, &y, sizeof y);
    }
    for (size_t i = n; i < LB_Q8_CHUNK / group; i++)
        s[i] = 0;
}

#if defined(__AVX512BW__)
/* The same in a register: n scales or biases of groups, one for each 32 columns; behind them zeros.
 */
INLINE __m512 regs_mlx(const u8 *p, const lb_dtype t, const u32 group, const size_t n) {
    const __mmask16 there = (__mmask16)((1u << n) - 1);
    __m512 x;
    if (t == LB_F32) {
        x = _mm512_maskz_loadu_ps(there, (const void *)p);
    } else {
        const __m256i y = _mm256_maskz_loadu_epi16(there, (const void *)p);
        x = t == LB_F16 ? f16s(y)
                        : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(y), 16));
    }
    const __m512i of = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(of, group / 64), x); /* 32, 64, 128 */
}
#endif

#endif
