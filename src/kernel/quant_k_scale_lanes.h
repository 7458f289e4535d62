/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k_scale_lanes.h: the quantizers of q3_k and q6_k in lanes, for quant_k_<isa>.c. */
#ifndef LB_KERNEL_QUANT_K_SCALE_LANES_H
#define LB_KERNEL_QUANT_K_SCALE_LANES_H
#ifdef LANES_INLINE

#include "kernel/quant_k_lanes.h"

LANES_INLINE void fit_symmetric_groups(groups *g, i32 q_max, const float *x,
                                       const float *importance, bool by_size) {
    const size_t n_groups = 16 * g->n_blocks;
    alignas(64) float t[16 * LANES], w[16 * LANES];
    for (size_t first = 0; first < n_groups; first += LANES) {
        symmetric_lanes s;
        load_groups(t, x, 16, first, n_groups);
        if (importance)
            load_groups(w, importance, 16, first, n_groups);
        for (size_t i = 0; !importance && i < 16; i++)
            vf_store(w + LANES * i, vf_square(vf_load(t + LANES * i)));
        if (by_size) {
            weigh(g, w, t, 16, first, 16);
            add_weights(g, w, 16, first);
        }
        fit_symmetric_lanes(16, q_max, t, w, &s);
        memcpy(g->scale + first, s.scale, sizeof s.scale);
        memcpy(g->cut + first, s.cut, sizeof s.cut);
        for (size_t k = 0; k < LANES; k++)
            g->zero[first + k] = s.zero >> k & 1;
        note_odd(g, s.odd, first, 16);
    }
}

LANES_INLINE void symmetric_values(const groups *g, size_t group, i32 q_max, const float *x,
                                   float d, u8 *q) {
    if (d != 0)
        codes_by_scale(16, x, -0.0f, d, -q_max, q_max - 1, q); /* x + -0 is x, zeros too */
    else if (g->zero[group])
        memset(q, 0, 16);
    else
        codes_by_cut(16, x, g->cut[group], 0, -q_max, q_max - 1, q);
}

static void quant_q6_k(size_t n_elems, void *out, const float *in, const float *importance,
                       const void *tables) {
    lb_block_q6_k *y = out;
    groups g;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const size_t k = at / LB_QK % LANES;
        const float *const weights = importance ? importance + at : NULL;
        if (k == 0) {
            g.n_blocks = LB_MIN((n_elems - at) / LB_QK, (size_t)LANES);
            memset(g.odd, 0, sizeof g.odd);
            fit_symmetric_groups(&g, 32, in + at, weights, false);
        }
        const float *const scale = g.scale + 16 * k;
        const float most = lb_k_extreme(scale, 16);
        if (g.odd[k] || fabsf(most) < LB_QUANT_TINY) {
            lb_k_quant_q6_k_f32_ref(LB_QK, y, in + at, weights, tables);
            continue;
        }
        const float inverse = -128.0f / most;
        const u16 d = lb_quant_f16(1 / inverse);
        u8 q[LB_QK];
        lb_store_u16(y->d, d);
        for (size_t j = 0; j < 16; j++) {
            const i8 sc = (i8)LB_MIN(127, lb_nearest(inverse * scale[j]));
            y->scales[j] = (u8)sc;
            symmetric_values(&g, 16 * k + j, 32, in + at + 16 * j, lb_f16_to_f32(d) * (float)sc,
                             q + 16 * j);
        }
        lb_pack_q6(y, q);
    }
}

/* The scales of LANES blocks as codes 0..63. */
static void fit_q3_scales(groups *g) {
    alignas(64) float t[16 * LANES], w[16 * LANES];
    symmetric_lanes s;
    by_block(t, g->scale, 16, g->n_blocks);
    by_block(w, g->sum_w, 16, g->n_blocks);
    fit_symmetric_lanes(16, 32, t, w, &s);
    for (size_t k = 0; k < g->n_blocks; k++) {
        for (size_t j = 0; j < 16; j++) {
            const i32 q = lb_clamp(lb_nearest(s.cut[k] * g->scale[16 * k + j]), -32, 31);
            g->sc[k][j] = (u8)(s.zero >> k & 1 ? 0 : q + 32);
        }
        g->d[k] = s.scale[k];
    }
    note_odd(g, s.odd, 0, 1);
}

static void pack_q3(lb_block_q3_k *y, u8 *q) {
    lb_pack_1bit(y->hmask, q, 2);
    for (size_t j = 0; j < LB_QK; j++)
        q[j] &= 3;
    lb_pack_2bit(y->qs, q);
}

static void fit_codes_groups(groups *g, const float *x) {
    const size_t n_groups = 16 * g->n_blocks;
    alignas(64) float t[16 * LANES];
    for (size_t first = 0; first < n_groups; first += LANES) {
        symmetric_lanes s;
        load_groups(t, x, 16, first, n_groups);
        fit_by_codes_lanes(16, 4, t, &s);
        memcpy(g->scale + first, s.scale, sizeof s.scale);
        note_odd(g, s.odd, first, 16);
    }
}

/* Without importance. */
static void quant_q3_k_plain(size_t n_elems, lb_block_q3_k *y, const float *in) {
    groups g;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const size_t k = at / LB_QK % LANES;
        if (k == 0) {
            g.n_blocks = LB_MIN((n_elems - at) / LB_QK, (size_t)LANES);
            memset(g.odd, 0, sizeof g.odd);
            fit_codes_groups(&g, in + at);
        }
        if (g.odd[k]) {
            lb_k_quant_q3_k_f32_ref(LB_QK, y, in + at, NULL, NULL);
            continue;
        }
        u8 q[LB_QK], sc[16];
        const u16 d = lb_quant_f16(lb_k3_scale_codes(g.scale + 16 * k, sc));
        lb_store_u16(y->d, d);
        lb_put_k3_scales(y->scales, sc);
        for (size_t j = 0; j < 16; j++) {
            const float *const x = in + at + 16 * j;
            const float scale = lb_f16_to_f32(d) * (float)(sc[j] - 32);
            if (scale != 0)
                codes_by_scale(16, x, -0.0f, scale, -4, 3, q + 16 * j);
            else
                (void)lb_fit_by_codes(16, 4, x, q + 16 * j);
        }
        pack_q3(y, q);
    }
}

static void quant_q3_k(size_t n_elems, void *out, const float *in, const float *importance,
                       const void *tables) {
    if (!importance) {
        quant_q3_k_plain(n_elems, out, in);
        return;
    }
    lb_block_q3_k *y = out;
    groups g;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const size_t k = at / LB_QK % LANES;
        if (k == 0) {
            g.n_blocks = LB_MIN((n_elems - at) / LB_QK, (size_t)LANES);
            memset(g.odd, 0, sizeof g.odd);
            mean_squares(&g, in + at, 2);
            fit_symmetric_groups(&g, 4, in + at, importance + at, true);
            fit_q3_scales(&g);
        }
        if (g.odd[k]) {
            lb_k_quant_q3_k_f32_ref(LB_QK, y, in + at, importance + at, tables);
            continue;
        }
        const u16 d = lb_quant_f16(g.d[k]);
        u8 q[LB_QK];
        lb_store_u16(y->d, d);
        lb_put_k3_scales(y->scales, g.sc[k]);
        for (size_t j = 0; j < 16; j++)
            symmetric_values(&g, 16 * k + j, 4, in + at + 16 * j,
                             lb_f16_to_f32(d) * (float)(g.sc[k][j] - 32), q + 16 * j);
        pack_q3(y, q);
    }
}

#endif
#endif
