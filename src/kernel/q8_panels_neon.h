/* SPDX-License-Identifier: Apache-2.0 */
/* q8_panels_neon.h: panels four rows at a time, a lane a row; part of q8_tmpl.h where tokens of a
 * tile are multiplied by 16 bits or by sdot. */
#ifndef LB_KERNEL_Q8_PANELS_NEON_H
#define LB_KERNEL_Q8_PANELS_NEON_H

#if defined(__ARM_NEON)

#include "kernel/q8_dot_neon.h"

INLINE int8x16_t codes(const u8 *p) {
    return narrow(true, vld1q_u8(p));
}

/* sum += the products of four rows with the i-th of nt tokens, whose four columns follow one
 * another. */
INLINE int32x4_t quads_of(int32x4_t sum, int8x16_t w, const i8 *tokens, const int i, const int nt) {
#if defined(__ARM_FEATURE_DOTPROD)
    if (nt >= 4) {
        const int8x16_t a = vld1q_s8(tokens + i / 4 * 16);
        switch (i % 4) {
        case 0:
            return vdotq_laneq_s32(sum, w, a, 0);
        case 1:
            return vdotq_laneq_s32(sum, w, a, 1);
        case 2:
            return vdotq_laneq_s32(sum, w, a, 2);
        default:
            return vdotq_laneq_s32(sum, w, a, 3);
        }
    }
#endif
    i32 a;
    (void)nt;
    memcpy(&a, tokens + 4 * i, 4);
    return quads(sum, w, vreinterpretq_s8_s32(vdupq_n_s32(a)));
}

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
                UNROLL for (int i = 0; i < nt; i++) sum[i] = quads_of(sum[i], w, q[c][t], i, nt);
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

#endif
#endif
