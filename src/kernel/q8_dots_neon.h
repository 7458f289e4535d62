/* SPDX-License-Identifier: Apache-2.0 */
/* q8_dots_neon.h: a row and some tokens, a unit at a time: four sums of 32 or eight of 16. */
#ifndef LB_KERNEL_Q8_DOTS_NEON_H
#define LB_KERNEL_Q8_DOTS_NEON_H

#if defined(__ARM_NEON)

#include "kernel/q8_dot_neon.h"
#include "kernel/q8_unit_vec.h"

#define MT 2 /* tokens at once */

typedef struct sums {
    float32x4_t first[4], second[4];
    u32 has; /* groups of 32 of any chunk with second parts */
} sums;

INLINE void clear(sums *s) {
    UNROLL for (int i = 0; i < 4; i++) s->first[i] = s->second[i] = vdupq_n_f32(0);
    s->has = 0;
}

/* Lanes of the lowest bits. halves: of groups of 32, two lanes each. */
INLINE uint32x4_t lanes_of_bits(const bool halves, u32 bits) {
    const uint32x4_t one = halves ? (uint32x4_t){1, 1, 2, 2} : (uint32x4_t){1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32(bits), one);
}

/* Where four groups stand. */
typedef struct four {
    const float *scale, *min, *d, *m;
    const i32 *s;
} four;

/* Adds four groups to their lanes; which: those of these bits. */
INLINE void term(const u32 type, const u32 *which, int32x4_t sum, const four *g, float32x4_t *acc) {
    const i32 off = lb_q8_off(type) - (type & LB_Q8_WIDE ? 128 : 0);
    const int32x4_t q = vmlsq_n_s32(sum, vld1q_s32(g->s), off);
    float32x4_t to =
        vfmaq_f32(*acc, vcvtq_f32_s32(q), vmulq_f32(vld1q_f32(g->scale), vld1q_f32(g->d)));
    if (type & LB_Q8_MIN)
        to = vfmaq_f32(to, vld1q_f32(g->min), vld1q_f32(g->m));
    *acc = which ? vbslq_f32(lanes_of_bits(type & LB_Q8_HALVES, *which), to, *acc) : to;
}

INLINE int32x4_t sums4(const int32x4_t p[4]) {
    return vpaddq_s32(vpaddq_s32(p[0], p[1]), vpaddq_s32(p[2], p[3]));
}

/* The u-th unit of a chunk; s, m: of the chunk. more: only groups of these bits. */
INLINE void unit_dot(const u32 type, const u32 *more, const int8x16_t c[8], const float *s,
                     const float *m, const lb_q8_act *x, const int u, float32x4_t acc[4]) {
    const i8 *q = x->q + 128 * u;
    int32x4_t a[4], b[4];
    UNROLL for (int i = 0; i < 4; i++) {
        a[i] = quads(vdupq_n_s32(0), c[i], vld1q_s8(q + 16 * i));
        b[i] =
            quads(type & LB_Q8_HALVES ? vdupq_n_s32(0) : a[i], c[i + 4], vld1q_s8(q + 64 + 16 * i));
    }
    const int32x4_t last = sums4(b);
    const u32 bits = more ? *more >> 4 * u : 0, high = bits >> 2;
    if (type & LB_Q8_HALVES) {
        const int32x4_t first = sums4(a);
        const int at = 8 * u;
        const four g = {s + at, m + at, x->d16 + at, x->m16 + at, x->s16 + at};
        const four h = {g.scale + 4, g.min + 4, g.d + 4, g.m + 4, g.s + 4};
        term(type, more ? &bits : NULL, vzip1q_s32(first, last), &g, acc + 2 * u % 4);
        term(type, more ? &high : NULL, vzip2q_s32(first, last), &h, acc + (2 * u + 1) % 4);
    } else {
        const int at = 4 * u;
        const four g = {s + at, m + at, x->d32 + at, x->m32 + at, x->s32 + at};
        term(type, more ? &bits : NULL, last, &g, acc + u);
    }
}

INLINE void add_unit(const u32 type, const int nt, const int8x16_t c[8], const float *s,
                     const lb_q8_act *x, const lb_q8_shape *shape, const int u, sums *sum) {
    const size_t n_chunks = lb_q8_chunks(shape->n_cols);
    UNROLL for (int t = 0; t < nt; t++, x += shape->act_stride) {
        unit_dot(type, NULL, c, s, s + 32, x, u, sum[t].first);
        if (x->more >> 4 * u & 15) {
            sum[t].has |= x->more;
            unit_dot(type, &x->more, c, s, s + 32, x + n_chunks, u, sum[t].second);
        }
    }
}

INLINE void add_row_chunk(const u32 type, const int nt, const lb_q8_row *r, const lb_q8_act *x,
                          const lb_q8_shape *shape, sums *sum) {
    UNROLL for (int u = 0; u < 4; u++) {
        int8x16_t c[8];
        UNROLL for (int i = 0; i < 8; i++) c[i] =
            narrow(type & LB_Q8_WIDE, vld1q_u8(r->q + 128 * u + 16 * i));
        add_unit(type, nt, c, r->s, x, shape, u, sum);
    }
}

/* A stored one, or its first half: what is behind adds zeros, which a lane of -0 notices. */
INLINE void add_unit_chunk(const u32 type, const int nt, const int n_units, const packed *k,
                           const lb_q8_act *x, const lb_q8_shape *shape, sums *sum) {
    UNROLL for (int u = 0; u < 4; u++) {
        int8x16_t c[8];
        if (u >= n_units) {
            UNROLL for (int t = 0; t < nt; t++) {
                float32x4_t *const to = sum[t].first;
                const int i = type & LB_Q8_HALVES ? 2 * u % 4 : u;
                to[i] = vaddq_f32(to[i], vdupq_n_f32(0));
                if (type & LB_Q8_HALVES)
                    to[i + 1] = vaddq_f32(to[i + 1], vdupq_n_f32(0));
            }
            continue;
        }
        UNROLL for (int i = 0; i < 8; i++) c[i] =
            narrow(type & LB_Q8_WIDE, (uint8x16_t)k->unit(k->p, (size_t)u, (size_t)i));
        add_unit(type, nt, c, k->scales, x, shape, u, sum);
    }
}

INLINE float finish_row(const u32 type, const sums *s) {
    const bool halves = type & LB_Q8_HALVES;
    const u32 more = halves ? s->has | s->has >> 8 : s->has;
    float32x4_t v[4];
    UNROLL for (int i = 0; i < 4; i++) v[i] =
        vbslq_f32(lanes_of_bits(halves, more >> (halves ? 2 : 4) * i),
                  vaddq_f32(s->first[i], s->second[i]), s->first[i]);
    const float32x4_t x = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
    const float32x2_t y = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return lb_canon_f32(vget_lane_f32(y, 0) + vget_lane_f32(y, 1));
}

#endif
#endif
