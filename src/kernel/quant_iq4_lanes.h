/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq4_lanes.h: the quantizers of iq4_nl and iq4_xs (quant_iq4_ref.c) in lanes, one group of
 * 32 a lane; for quant_iq_<isa>.c.
 *
 * The nearest value is found by counting: it grows by a gap with every middle of two neighbours
 * that x reaches. The reference compares x - lower < upper - x instead; both differences are exact
 * where x is near the middle (all are multiples of x's last bit, and below 16), so the answers are
 * the same, and so they are for a NaN, which is below no middle. No lane needs the reference. */
#ifndef LB_KERNEL_QUANT_IQ4_LANES_H
#define LB_KERNEL_QUANT_IQ4_LANES_H
#ifdef LANES_INLINE

#include "kernel/blocks_k.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"
#include "kernel/quant.h"
#include "kernel/quant_lanes.h"

/* Middles of neighbouring values and the gaps between them. */
typedef struct iq4_steps {
    float middle[15], gap[15];
} iq4_steps;

LANES_INLINE void iq4_start(iq4_steps *s) {
    for (size_t k = 0; k < 15; k++) {
        s->middle[k] = 0.5f * (float)(lb_iq4_values[k] + lb_iq4_values[k + 1]);
        s->gap[k] = (float)(lb_iq4_values[k + 1] - lb_iq4_values[k]);
    }
}

LANES_INLINE vf iq4_value(const iq4_steps *s, vf x) {
    vf low = vf_all((float)lb_iq4_values[0]), high = vf_all(0); /* two chains of exact sums */
    for (size_t k = 0; k < 8; k++) {
        low = vf_add_unless(vf_less(x, vf_all(s->middle[k])), low, vf_all(s->gap[k]));
        if (k < 7)
            high = vf_add_unless(vf_less(x, vf_all(s->middle[k + 8])), high, vf_all(s->gap[k + 8]));
    }
    return vf_add(low, high);
}

typedef struct iq4_sums {
    vf xq, qq;
} iq4_sums;

LANES_INLINE iq4_sums iq4_trial(const iq4_steps *s, vf cut, const float *x, const float *w) {
    iq4_sums t = {vf_all(0), vf_all(0)};
    for (size_t j = 0; j < 32; j++) {
        const vf v = vf_load(x + LANES * j), q = iq4_value(s, vf_mul(cut, v));
        const vf wq = vf_mul(vf_load(w + LANES * j), q);
        t.xq = vf_add(t.xq, vf_mul(wq, v));
        t.qq = vf_add(t.qq, vf_mul(wq, q));
    }
    return t;
}

/* x, w: [32][LANES]; one scale a lane. */
LANES_INLINE void iq4_fit_lanes(const iq4_steps *s, const float *x, const float *w, float *scales) {
    const float first = (float)lb_iq4_values[0];
    vf magnitude = vf_all(0), most = vf_all(0);
    for (size_t j = 0; j < 32; j++) {
        const vf v = vf_load(x + LANES * j), a = vf_abs(v);
        most = vf_pick(vf_less(magnitude, a), v, most);
        magnitude = vf_max(a, magnitude);
    }
    const vm zero = vf_less(magnitude, vf_all(LB_QUANT_TINY));
    iq4_sums t = iq4_trial(s, vf_div(vf_all(1), vf_div(vf_neg(most), vf_all(first))), x, w);
    vf scale = vf_pick(vf_less(vf_all(0), t.qq), vf_div(t.xq, t.qq), vf_all(0));
    vf best = vf_mul(scale, t.xq);
    for (i32 k = -7; k <= 7; k++) {
        t = iq4_trial(s, vf_div(vf_all((float)k + first), most), x, w);
        const vm better =
            vm_and(vf_less(vf_all(0), t.qq), vf_less(vf_mul(best, t.qq), vf_square(t.xq)));
        const vf new_scale = vf_div(t.xq, t.qq);
        scale = vf_pick(better, new_scale, scale);
        best = vf_pick(better, vf_mul(new_scale, t.xq), best);
    }
    vf_store(scales, vf_pick(zero, vf_all(0), scale));
}

/* Scales of the n_groups <= LANES groups at x. sigma2: one a group. */
LANES_INLINE void iq4_scales(const iq4_steps *s, const float *x, const float *importance,
                             const float *sigma2, size_t n_groups, float *scales) {
    alignas(64) float t[32 * LANES], w[32 * LANES];
    const float *src[LANES];
    for (size_t k = 0; k < LANES; k++)
        src[k] = x + 32 * LB_MIN(k, n_groups - 1);
    lanes_transpose(t, src, 32);
    for (size_t k = 0; importance && k < LANES; k++)
        src[k] = importance + 32 * LB_MIN(k, n_groups - 1);
    if (importance)
        lanes_transpose(w, src, 32);
    const vf mean = importance ? vf_load(sigma2) : vf_all(0);
    for (size_t j = 0; j < 32; j++) {
        const vf squared = vf_square(vf_load(t + LANES * j));
        vf_store(w + LANES * j, importance
                                    ? vf_mul(vf_load(w + LANES * j), vf_sqrt(vf_add(mean, squared)))
                                    : squared);
    }
    iq4_fit_lanes(s, t, w, scales);
}

/* 32 values to codes: the reference's loop over vectors of one group. */
LANES_INLINE void iq4_codes(const iq4_steps *s, const float *x, float inverse, u8 *qs) {
    u8 q[32];
    for (size_t i = 0; i < 32; i += HALF) {
        const vh v = vh_all(inverse) * vh_load(x + i);
        vh low = vh_all(0), high = vh_all(0);
        for (size_t k = 0; k < 8; k++) {
            low = vh_add_unless(vh_less(v, vh_all(s->middle[k])), low, vh_all(1));
            if (k < 7)
                high = vh_add_unless(vh_less(v, vh_all(s->middle[k + 8])), high, vh_all(1));
        }
        vhi_store_bytes(q + i, vhi_nearest(low + high), 0);
    }
    for (size_t j = 0; j < 16; j++)
        qs[j] = (u8)(q[j] | q[j + 16] << 4);
}

static void quant_iq4_nl(size_t n_elems, void *out, const float *in, const float *importance,
                         const void *tables) {
    lb_block_iq4_nl *y = out;
    iq4_steps s;
    (void)tables;
    iq4_start(&s);
    for (size_t at = 0; at < n_elems; at += 32 * LANES) {
        const size_t n = LB_MIN((n_elems - at) / 32, (size_t)LANES);
        float scales[LANES], sigma2[LANES] = {0};
        for (size_t k = 0; importance && k < n; k++)
            sigma2[k] = lb_sum_squares(in + at + 32 * k, 32) * (2.0f / 32);
        iq4_scales(&s, in + at, importance ? importance + at : NULL, sigma2, n, scales);
        for (size_t k = 0; k < n; k++, y++) {
            lb_store_u16(y->d, lb_quant_f16(scales[k]));
            iq4_codes(&s, in + at + 32 * k, scales[k] != 0 ? 1 / scales[k] : 0, y->qs);
        }
    }
}

/* Fields of one block from the scales of its groups. */
LANES_INLINE void iq4_xs_block(const iq4_steps *s, lb_block_iq4_xs *y, const float *x,
                               const float *scale) {
    float most = 0, magnitude = 0;
    for (size_t g = 0; g < 8; g++)
        if (fabsf(scale[g]) > magnitude) {
            magnitude = fabsf(scale[g]);
            most = scale[g];
        }
    const float d = -most / 32, inverse = d != 0 ? 1 / d : 0;
    u32 high = 0;
    lb_store_u16(y->d, lb_quant_f16(d));
    memset(y->scales_l, 0, sizeof y->scales_l);
    for (size_t g = 0; g < 8; g++) {
        const i32 sc = lb_clamp(lb_nearest(inverse * scale[g]), -32, 31);
        const float dl = d * (float)sc;
        iq4_codes(s, x + 32 * g, dl != 0 ? 1 / dl : 0, y->qs + 16 * g);
        y->scales_l[g / 2] |= (u8)(((sc + 32) & 15) << g % 2 * 4);
        high |= (u32)(sc + 32) >> 4 << 2 * g;
    }
    lb_store_u16(y->scales_h, (u16)high);
}

static void quant_iq4_xs(size_t n_elems, void *out, const float *in, const float *importance,
                         const void *tables) {
    enum { BLOCKS = LB_MAX(LANES / 8, 1) }; /* at a time */
    lb_block_iq4_xs *y = out;
    iq4_steps s;
    (void)tables;
    iq4_start(&s);
    for (size_t at = 0; at < n_elems; at += LB_QK * BLOCKS) {
        const size_t n = LB_MIN((n_elems - at) / LB_QK, (size_t)BLOCKS);
        float scales[BLOCKS * 8], sigma2[BLOCKS * 8] = {0};
        for (size_t k = 0; importance && k < 8 * n; k++)
            sigma2[k] =
                k % 8 ? sigma2[k - 1] : lb_sum_squares(in + at + 32 * k, LB_QK) * (2.0f / LB_QK);
        for (size_t g = 0; g < 8 * n; g += LANES)
            iq4_scales(&s, in + at + 32 * g, importance ? importance + at + 32 * g : NULL,
                       sigma2 + g, LB_MIN(8 * n - g, (size_t)LANES), scales + g);
        for (size_t k = 0; k < n; k++)
            iq4_xs_block(&s, y++, in + at + LB_QK * k, scales + 8 * k);
    }
}

#endif
#endif
