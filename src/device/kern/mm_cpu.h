/* SPDX-License-Identifier: Apache-2.0 */
/* mm_cpu.h: the words of dialect.k for products of tiles as C11, with the arithmetic of
 * mm_cuda.k: a value is two of 11 bits, whose three larger products are added in f32.
 *
 * Lane l of a simdgroup has token l of its quarter; what lies beyond the live tokens and rows is
 * left out, which only saves time: nobody reads it. */
#ifndef LB_DEVICE_KERN_MM_CPU_H
#define LB_DEVICE_KERN_MM_CPU_H

#include "device/kern/args.h"

#define LBK_HAS_MM 1
#define LBK_MM_KERNEL LBK_KERNEL
#define LBK_MM_STAGES 2u
#define LBK_MM_MEMORY(n) LBK_SHARED(float, n, LBK_MM_STAGES * 2u * LBK_MM_HALF)
#define LBK_HAS_GEMM 1
#define LBK_TILE_MEMORY(n) LBK_SHARED(lbk_u4, n, 1024u)
#define LBK_MM_SUMS(acc) float acc[32] = {0}
#define LBK_MM_PUT8(tile, at, line, k, v) \
    memcpy(tile + (at) + (line)*32u + (k), v, 8u * sizeof(float))
#define LBK_MM_PUT4(tile, at, line, k, v) \
    memcpy(tile + (at) + (line)*32u + (k), v, 4u * sizeof(float))
#define LBK_MM_STEP(acc, tile, x_at, w_at, token, row, exact, n_tokens, n_rows)           \
    do {                                                                                  \
        (void)lb_fiber_simd(lbk_, LB_FIBER_SUM, 0, __LINE__);                             \
        if ((token) + LBK_LANE < (n_tokens) && (row) < (n_rows))                          \
            lbk_mm_step(acc, tile + (x_at) + ((token) + LBK_LANE) * 32u,                  \
                        tile + (w_at) + (row)*32u, LB_MIN((n_rows) - (row), 32u), exact); \
    } while (0)
#define LBK_MM_TAKE(acc, tile, token, row) \
    memcpy(tile + ((token) + LBK_LANE) * LB_DEV_MM_ROWS + (row), acc, sizeof(acc))
#define LBK_MM_AT(tile, i) tile[i]

static inline float lbk_tf32(float v) {
    return lb_f32_from_bits(lb_f32_bits(v) & 0xffffe000u);
}

/* x: 32 columns of a token, w: of n rows. */
static inline void lbk_mm_step(float *acc, const float *x, const float *w, u32 n, bool exact) {
    float high[32], low[32];
    for (u32 k = 0; k < 32; k++) {
        high[k] = lbk_tf32(x[k]);
        low[k] = lbk_tf32(x[k] - high[k]);
    }
    for (u32 r = 0; r < n; r++, w += 32) {
        float sum = acc[r];
        for (u32 k = 0; k < 32; k++) {
            const float w_high = lbk_tf32(w[k]);
            sum += w_high * low[k];
            if (!exact)
                sum += lbk_tf32(w[k] - w_high) * high[k];
            sum += w_high * high[k];
        }
        acc[r] = sum;
    }
}

#endif
