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

INLINE int8x16_t codes(const u8 *p) {
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(128)));
}

/* acc += sums of four products. */
INLINE int32x4_t quads(int32x4_t acc, int8x16_t w, int8x16_t a) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(acc, w, a);
#else
    const int16x8_t lo = vmull_s8(vget_low_s8(w), vget_low_s8(a));
    const int16x8_t hi = vmull_s8(vget_high_s8(w), vget_high_s8(a));
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
#endif
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

/* ---- rows by themselves ---- */

#define MT 2 /* tokens at once */

INLINE int32x4_t sixteen(const bool wide, const u8 *w, const i8 *q) {
    return quads(vdupq_n_s32(0), wide ? codes(w) : vreinterpretq_s8_u8(vld1q_u8(w)), vld1q_s8(q));
}

/* Sums of four groups. */
INLINE int32x4_t groups(const bool halves, const bool wide, const u8 *w, const i8 *q) {
    int32x4_t p[4];
    UNROLL for (int i = 0; i < 4; i++) {
        if (halves)
            p[i] = sixteen(wide, w + 16 * i, q + 16 * i);
        else
            p[i] = vaddq_s32(sixteen(wide, w + 32 * i, q + 32 * i),
                             sixteen(wide, w + 32 * i + 16, q + 32 * i + 16));
    }
    return vpaddq_s32(vpaddq_s32(p[0], p[1]), vpaddq_s32(p[2], p[3]));
}

/* Lanes of four groups whose bits are set from g on. */
INLINE uint32x4_t lanes(const bool halves, u32 bits, size_t g) {
    const u32 b = halves ? bits >> g / 2 : bits >> g;
    const uint32x4_t one = halves ? (uint32x4_t){1, 1, 2, 2} : (uint32x4_t){1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32(b), one);
}

/* All groups, or a second part of those that have one. */
typedef struct which_groups {
    bool masked;
    u32 more;
} which_groups;

INLINE void chunk(const bool halves, const bool min, const bool wide, const which_groups of,
                  const lb_q8_row *w, const lb_q8_act *x, i32 off, float32x4_t acc[4]) {
    const size_t len = halves ? 16 : 32;
    const float *d = halves ? x->d16 : x->d32, *m = halves ? x->m16 : x->m32;
    const i32 *s = halves ? x->s16 : x->s32;
    UNROLL for (size_t g = 0; g < LB_Q8_CHUNK / len; g += 4) {
        float32x4_t *to = acc + g / 4 % 4;
        const int32x4_t sum = vmlsq_n_s32(groups(halves, wide, w->q + len * g, x->q + len * g),
                                          vld1q_s32(s + g), off);
        float32x4_t y =
            vfmaq_f32(*to, vcvtq_f32_s32(sum), vmulq_f32(vld1q_f32(w->s + g), vld1q_f32(d + g)));
        if (min)
            y = vfmaq_f32(y, vld1q_f32(w->m + g), vld1q_f32(m + g));
        *to = of.masked ? vbslq_f32(lanes(halves, of.more, g), y, *to) : y;
    }
}

INLINE void dots_as(const bool halves, const bool min, const bool wide, const int nt,
                    const lb_q8_shape *shape, float *out, const lb_q8_row *w, const lb_q8_act *a) {
    const size_t n_chunks = lb_q8_chunks(shape->n_cols);
    const i32 off = off_of(shape->type);
    float32x4_t acc[MT][4], rest[MT][4];
    u32 has[MT] = {0};
    UNROLL for (int t = 0; t < nt; t++) UNROLL for (int i = 0; i < 4; i++) acc[t][i] = rest[t][i] =
        vdupq_n_f32(0);
    for (size_t k = 0; k < n_chunks; k++)
        UNROLL for (int t = 0; t < nt; t++) {
            const lb_q8_act *x = a + (size_t)t * shape->act_stride + k;
            chunk(halves, min, wide, (which_groups){0}, w + k, x, off, acc[t]);
            if (x->more) {
                has[t] |= x->more;
                chunk(halves, min, wide, (which_groups){true, x->more}, w + k, x + n_chunks, off,
                      rest[t]);
            }
        }
    UNROLL for (int t = 0; t < nt; t++) {
        const u32 more = halves ? has[t] | has[t] >> 8 : has[t];
        UNROLL for (size_t i = 0; i < 4; i++) acc[t][i] =
            vbslq_f32(lanes(halves, more, 4 * i), vaddq_f32(acc[t][i], rest[t][i]), acc[t][i]);
        const float32x4_t x =
            vaddq_f32(vaddq_f32(acc[t][0], acc[t][2]), vaddq_f32(acc[t][1], acc[t][3]));
        const float32x2_t y = vadd_f32(vget_low_f32(x), vget_high_f32(x));
        out[(size_t)t * shape->out_stride] =
            lb_canon_f32(vget_lane_f32(y, 0) + vget_lane_f32(y, 1));
    }
}

INLINE void dots(const bool halves, const bool min, const int nt, const lb_q8_shape *shape,
                 float *out, const lb_q8_row *w, const lb_q8_act *a) {
    if (!halves && (shape->type & LB_Q8_WIDE))
        dots_as(halves, min, true, nt, shape, out, w, a);
    else
        dots_as(halves, min, false, nt, shape, out, w, a);
}

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_neon(lb_kernels *k);

void lb_kinit_q8_neon(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
