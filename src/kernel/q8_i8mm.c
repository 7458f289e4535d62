/* SPDX-License-Identifier: Apache-2.0 */
/* q8_i8mm.c: panels by usmmla, which adds eight products to each lane: of two rows and two tokens.
 * So a register of a panel has eight columns of two rows, one of a tile those of two tokens, and
 * sums, scales and lanes stay in squares of two by two until a lane is stored. Products of a row
 * and a token are sdot's. */
#ifndef __ARM_FEATURE_MATMUL_INT8
#error "compile with +i8mm"
#endif
#include <arm_neon.h>

#define NT 8
#define RUN 8
#define NARROW 0
#include "kernel/q8_tmpl.h"

/* Two numbers of four bytes, twice. */
INLINE uint32x4_t two(const void *p) {
    u64 x;
    memcpy(&x, p, sizeof x);
    return vreinterpretq_u32_u64(vdupq_n_u64(x));
}

/* Four numbers as pairs of the same: those of the first two rows, or of the other two. */
INLINE float32x4_t twice(float32x4_t x, const int half) {
    return half ? vzip2q_f32(x, x) : vzip1q_f32(x, x);
}

/* Four rows and nt tokens, an even number. */
INLINE void squares(const bool halves, const bool min, const int nt, const int t, const job *j,
                    const size_t l, lanes_of lane) {
    const int n_runs = halves ? 2 : 4;
    const size_t step = halves ? sizeof(tile16) : sizeof(tile32), size = (size_t)n_runs * 128 + 128;
    const size_t h = l % 4;
    const u8 *p = j->panel + l / 4 * j->n_groups * size;
    const u8 *x = j->tile + l / 4 * j->n_groups * step;
    float32x4_t acc[2][NT / 2];
    UNROLL for (int i = 0; i < nt / 2; i++) acc[0][i] = acc[1][i] = vdupq_n_f32(0);
    for (size_t k = 0; k < j->n_groups; k++, p += size, x += step) {
        const i8(*q)[NT][8] = (const i8(*)[NT][8])(const void *)x;
        const float *d = (const float *)(const void *)(x + n_runs * NT * 8) + t, *m = d + NT;
        const i32 *less = (const i32 *)(const void *)(m + NT);
        int32x4_t sum[2][NT / 2];
        UNROLL for (int i = 0; i < nt / 2; i++) sum[0][i] = sum[1][i] =
            vnegq_s32(vreinterpretq_s32_u32(two(less + 2 * i)));
        UNROLL for (int c = 0; c < n_runs; c++) {
            const uint8x16_t w0 = vld1q_u8(p + 128 * c + 32 * h);
            const uint8x16_t w1 = vld1q_u8(p + 128 * c + 32 * h + 16);
            UNROLL for (int i = 0; i < nt / 2; i++) {
                const int8x16_t a = vld1q_s8(q[c][t + 2 * i]);
                sum[0][i] = vusmmlaq_s32(sum[0][i], w0, a);
                sum[1][i] = vusmmlaq_s32(sum[1][i], w1, a);
            }
        }
        const float *from = (const float *)(const void *)(p + 128 * n_runs) + 4 * h;
        const float32x4_t s = vld1q_f32(from), mn = vld1q_f32(from + 16);
        UNROLL for (int r = 0; r < 2; r++) UNROLL for (int i = 0; i < nt / 2; i++) {
            const float32x4_t by = vmulq_f32(twice(s, r), vreinterpretq_f32_u32(two(d + 2 * i)));
            acc[r][i] = vfmaq_f32(acc[r][i], vcvtq_f32_s32(sum[r][i]), by);
            if (min)
                acc[r][i] =
                    vfmaq_f32(acc[r][i], twice(mn, r), vreinterpretq_f32_u32(two(m + 2 * i)));
        }
    }
    UNROLL for (int i = 0; i < nt / 2; i++) {
        vst1q_f32(lane[l / 4][t + 2 * i] + 4 * h, vuzp1q_f32(acc[0][i], acc[1][i]));
        vst1q_f32(lane[l / 4][t + 2 * i + 1] + 4 * h, vuzp2q_f32(acc[0][i], acc[1][i]));
    }
}

/* The products of four rows and a token: of pairs of rows, halves of the columns in turn. */
INLINE int32x4_t four_rows(const int n_runs, i32 less, const u8 *p, const u8 *q,
                           const size_t q_step) {
    int32x4_t lo = vdupq_n_s32(0), hi = lo;
    UNROLL for (int c = 0; c < n_runs; c++) {
        const int8x16_t a = vreinterpretq_s8_u32(two(q + q_step * (size_t)c));
        lo = vusdotq_s32(lo, vld1q_u8(p + 128 * c), a);
        hi = vusdotq_s32(hi, vld1q_u8(p + 128 * c + 16), a);
    }
    return vsubq_s32(vpaddq_s32(lo, hi), vdupq_n_s32(less));
}

INLINE void one_token(const bool halves, const bool min, const int t, const job *j, const size_t l,
                      lanes_of lane) {
    const int n_runs = halves ? 2 : 4;
    const size_t step = halves ? sizeof(tile16) : sizeof(tile32), size = (size_t)n_runs * 128 + 128;
    const u8 *p = j->panel + l / 4 * j->n_groups * size;
    const u8 *x = j->tile + l / 4 * j->n_groups * step;
    float32x4_t acc = vdupq_n_f32(0);
    for (size_t k = 0; k < j->n_groups; k++, p += size, x += step) {
        const float *d = (const float *)(const void *)(x + n_runs * NT * 8) + t, *m = d + NT;
        const i32 *less = (const i32 *)(const void *)(m + NT);
        const float *s = (const float *)(const void *)(p + 128 * n_runs) + 4 * (l % 4);
        const int32x4_t sum = four_rows(n_runs, *less, p + 32 * (l % 4), x + 8 * t, NT * 8);
        acc = vfmaq_f32(acc, vcvtq_f32_s32(sum), vmulq_n_f32(vld1q_f32(s), *d));
        if (min)
            acc = vfmaq_n_f32(acc, vld1q_f32(s + 16), *m);
    }
    vst1q_f32(lane[l / 4][t] + 4 * (l % 4), acc);
}

INLINE void rows16(const bool halves, const bool min, const bool wide, const int nt, const int t,
                   const job *j, lanes_of lane) {
    (void)wide;
    for (size_t l = 0; l < 4 * LANES; l++) {
        if (nt > 1)
            squares(halves, min, nt, t, j, l, lane);
        else
            one_token(halves, min, t, j, l, lane);
    }
}

INLINE void second16(const bool halves, const bool min, const bool wide, const u8 *group,
                     const second *x, float sum[16]) {
    const int n_runs = halves ? 2 : 4;
    const float *s = (const float *)(const void *)(group + 128 * n_runs);
    (void)wide;
    for (int h = 0; h < 4; h++, group += 32, s += 4, sum += 4) {
        const int32x4_t q = four_rows(n_runs, x->less, group, (const u8 *)x->q, 8);
        float32x4_t acc =
            vfmaq_f32(vld1q_f32(sum), vcvtq_f32_s32(q), vmulq_n_f32(vld1q_f32(s), x->d));
        if (min)
            acc = vfmaq_n_f32(acc, vld1q_f32(s + 16), x->m);
        vst1q_f32(sum, acc);
    }
}

void lb_kinit_q8_i8mm(lb_kernels *k);

void lb_kinit_q8_i8mm(lb_kernels *k) {
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
