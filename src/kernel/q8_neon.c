/* SPDX-License-Identifier: Apache-2.0 */
/* q8_neon.c: products of eight bits on Armv8-A: products of 16 bits added in pairs, with sdot where
 * the compiler may use it. Codes of at most 127 are signed as they are; wide ones are taken 128
 * lower. */
#ifndef __ARM_NEON
#error "compile for Arm with Advanced SIMD"
#endif
#include <arm_neon.h>

#define NT 4
#define NARROW 1
#include "kernel/q8_tmpl.h"
#include "kernel/q8_dot_neon.h"

INLINE int8x16_t codes(const u8 *p) {
    return narrow(true, vld1q_u8(p));
}

/* ---- panels: four rows at a time ---- */

INLINE void rows16(const bool halves, const bool min, const bool wide, const int nt, const int t,
                   const job *j, lanes_of lane) {
    const int n_quads = halves ? 4 : 8;
    const size_t step = halves ? sizeof(tile16) : sizeof(tile32), size = (size_t)n_quads * 64 + 128;
    for (int l = 0; l < 4 * LANES; l++) {
        const int h = l % 4;
        const u8 *p = j->panel + (size_t)(l / 4) * j->n_groups * size;
        const u8 *x = j->tile + (size_t)(l / 4) * j->n_groups * step;
        float32x4_t acc[NT];
        UNROLL for (int i = 0; i < nt; i++) acc[i] = vdupq_n_f32(0);
        for (size_t k = 0; k < j->n_groups; k++, p += size, x += step) {
            const i8(*q)[NT][4] = (const i8(*)[NT][4])(const void *)x;
            const float *d = (const float *)(const void *)(x + n_quads * NT * 4);
            const float *m = d + NT;
            const i32 *less = (const i32 *)(const void *)(m + NT);
            int32x4_t sum[NT];
            UNROLL for (int i = 0; i < nt; i++) sum[i] = vdupq_n_s32(-less[t + i]);
            UNROLL for (int c = 0; c < n_quads; c++) {
                const u8 *from = p + 64 * c + 16 * h;
                const int8x16_t w = wide ? codes(from) : vreinterpretq_s8_u8(vld1q_u8(from));
                UNROLL for (int i = 0; i < nt; i++) {
                    i32 a;
                    memcpy(&a, q[c][t + i], 4);
                    sum[i] = quads(sum[i], w, vreinterpretq_s8_s32(vdupq_n_s32(a)));
                }
            }
            const float *s = (const float *)(const void *)(p + 64 * n_quads) + 4 * h;
            UNROLL for (int i = 0; i < nt; i++) {
                acc[i] =
                    vfmaq_f32(acc[i], vcvtq_f32_s32(sum[i]), vmulq_n_f32(vld1q_f32(s), d[t + i]));
                if (min)
                    acc[i] = vfmaq_n_f32(acc[i], vld1q_f32(s + 16), m[t + i]);
            }
        }
        UNROLL for (int i = 0; i < nt; i++) vst1q_f32(lane[l / 4][t + i] + 4 * h, acc[i]);
    }
}

INLINE void second16(const bool halves, const bool min, const bool wide, const u8 *group,
                     const second *x, float sum[16]) {
    const int n_quads = halves ? 4 : 8;
    const float *s = (const float *)(const void *)(group + 64 * n_quads);
    for (int h = 0; h < 4; h++, group += 16, s += 4, sum += 4) {
        int32x4_t q = vdupq_n_s32(-x->less);
        UNROLL for (int c = 0; c < n_quads; c++) {
            const u8 *from = group + 64 * c;
            const int8x16_t w = wide ? codes(from) : vreinterpretq_s8_u8(vld1q_u8(from));
            i32 a;
            memcpy(&a, x->q + 4 * c, 4);
            q = quads(q, w, vreinterpretq_s8_s32(vdupq_n_s32(a)));
        }
        float32x4_t acc =
            vfmaq_f32(vld1q_f32(sum), vcvtq_f32_s32(q), vmulq_n_f32(vld1q_f32(s), x->d));
        if (min)
            acc = vfmaq_n_f32(acc, vld1q_f32(s + 16), x->m);
        vst1q_f32(sum, acc);
    }
}

#include "kernel/q8_dots_neon.h"

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_neon(lb_kernels *k);

void lb_kinit_q8_neon(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
