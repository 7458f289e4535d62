/* SPDX-License-Identifier: Apache-2.0 */
/* quant_legacy_lanes.h: the quantizers of q4_0, q4_1, q5_0 and q5_1 with importance
 * (quant_legacy_ref.c) in lanes: the searches take LANES blocks at a time, one a lane. Blocks with
 * an odd lane get the scalar search. */
#ifndef LB_KERNEL_QUANT_LEGACY_LANES_H
#define LB_KERNEL_QUANT_LEGACY_LANES_H
#ifdef LANES_INLINE

#include "kernel/kernel.h"
#include "kernel/quant_fit_affine_lanes.h"
#include "kernel/quant_fit_scale_lanes.h"

typedef struct legacy_weighted {
    bool affine;
    i32 q_max; /* of the search: half the codes, or the largest one */
    size_t bytes;
    const float *x, *importance;
    float sigma2; /* of the row */
} legacy_weighted;

/* [32][LANES] of n <= LANES blocks; lanes beyond the last repeat it. */
LANES_INLINE void legacy_load(float *t, const float *x, size_t n) {
    const float *src[LANES];
    for (size_t k = 0; k < LANES; k++)
        src[k] = x + 32 * LB_MIN(k, n - 1);
    lanes_transpose(t, src, 32);
}

/* Codes of 4 or 5 bits as lower halves, and the fifth bits before them. */
LANES_INLINE void legacy_put(u8 *y, const u8 *q, bool five) {
    if (five) {
        u32 high = 0;
        for (u32 i = 0; i < 32; i += 8) {
            u64 v;
            memcpy(&v, q + i, 8); /* bit 4 of byte j to bit j of the product's highest byte */
            v = (v >> 4 & 0x0101010101010101u) * 0x0102040810204080u >> 56;
            high |= (u32)v << i;
        }
        lb_store_u32(y, high);
        y += 4;
    }
    for (size_t j = 0; j < 16; j++)
        y[j] = (u8)((q[j] & 15) | q[j + 16] << 4);
}

LANES_INLINE void legacy_symmetric(const legacy_weighted *l, size_t n, const float *t,
                                   const float *w, u8 *y) {
    symmetric_lanes s;
    fit_symmetric_lanes(32, l->q_max, t, w, &s);
    for (size_t k = 0; k < n; k++, y += l->bytes) {
        const float *x = l->x + 32 * k;
        u8 q[32] = {0};
        float d = s.scale[k];
        if (s.odd >> k & 1) {
            float v[32];
            lb_quant_weights(v, l->importance + 32 * k, x, 32, l->sigma2);
            d = lb_fit_symmetric(32, l->q_max, x, v, q);
        } else if (!(s.zero >> k & 1)) {
            codes_by_cut(32, x, s.cut[k], 0, -l->q_max, l->q_max - 1, q);
        }
        lb_store_u16(y, lb_quant_f16(d));
        legacy_put(y + 2, q, l->q_max == 16);
    }
}

LANES_INLINE void legacy_affine(const legacy_weighted *l, size_t n, const float *t, const float *w,
                                u8 *y) {
    const lb_affine_search search = {l->q_max, -0.9f, 0.05f, 36, false};
    affine_lanes a;
    fit_affine_lanes(&search, 32, t, w, &a);
    for (size_t k = 0; k < n; k++, y += l->bytes) {
        const float *x = l->x + 32 * k;
        u8 q[32];
        float d = a.scale[k], minus = a.minus[k];
        if (a.odd >> k & 1) {
            float v[32];
            lb_quant_weights(v, l->importance + 32 * k, x, 32, l->sigma2);
            d = lb_fit_affine(&search, 32, x, v, q, &minus);
        } else {
            codes_by_cut(32, x, a.cut[k], a.from[k], 0, l->q_max, q);
        }
        lb_store_u16(y, lb_quant_f16(d));
        lb_store_u16(y + 2, lb_quant_f16(-minus));
        legacy_put(y + 4, q, l->q_max == 31);
    }
}

/* A whole row. */
LANES_INLINE void quant_legacy_weighted(legacy_weighted l, size_t n_elems, u8 *y) {
    alignas(64) float t[32 * LANES], w[32 * LANES];
    l.sigma2 = lb_sum_squares(l.x, n_elems) / (float)n_elems;
    const vf mean = vf_all(l.sigma2);
    for (size_t rest = n_elems / 32, n; rest; rest -= n) {
        n = LB_MIN(rest, (size_t)LANES);
        legacy_load(t, l.x, n);
        legacy_load(w, l.importance, n);
        for (size_t i = 0; i < 32 * LANES; i += LANES)
            vf_store(w + i,
                     vf_mul(vf_load(w + i), vf_sqrt(vf_add(mean, vf_square(vf_load(t + i))))));
        if (l.affine)
            legacy_affine(&l, n, t, w, y);
        else
            legacy_symmetric(&l, n, t, w, y);
        l.x += 32 * n;
        l.importance += 32 * n;
        y += l.bytes * n;
    }
}

#endif
#endif
