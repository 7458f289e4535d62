/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k_affine_lanes.h: the quantizers of q2_k, q4_k and q5_k in lanes, for quant_k_<isa>.c. */
#ifndef LB_KERNEL_QUANT_K_AFFINE_LANES_H
#define LB_KERNEL_QUANT_K_AFFINE_LANES_H
#ifdef LANES_INLINE

#include "kernel/quant_k_lanes.h"

LANES_INLINE void plain_weights_lanes(float *w, const float *t, size_t n) {
    vf sum = vf_all(0);
    for (size_t i = 0; n == 32 && i < n; i++)
        sum = vf_add(sum, vf_square(vf_load(t + LANES * i)));
    const vf root =
        vf_sqrt(vf_div(sum, vf_all((float)n))); /* groups of 16: zero, which changes no |x| */
    for (size_t i = 0; i < n; i++)
        vf_store(w + LANES * i, vf_add(root, vf_abs(vf_load(t + LANES * i))));
}

LANES_INLINE void fit_affine_groups(const lb_affine_type *type, groups *g, const float *x,
                                    const float *importance) {
    const size_t n = type->group_elems, n_groups = type->n_groups * g->n_blocks;
    alignas(64) float t[LANES_MAX_ELEMS * LANES], w[LANES_MAX_ELEMS * LANES];
    for (size_t first = 0; first < n_groups; first += LANES) {
        affine_lanes a;
        load_groups(t, x, n, first, n_groups);
        if (importance) {
            load_groups(w, importance, n, first, n_groups);
            weigh(g, w, t, n, first, type->n_groups);
            fit_affine_lanes(&type->weighted, n, t, w, &a);
        } else {
            plain_weights_lanes(w, t, n);
            fit_affine_lanes(&type->plain, n, t, w, &a);
        }
        add_weights(g, w, n, first);
        memcpy(g->scale + first, a.scale, sizeof a.scale);
        memcpy(g->minus + first, a.minus, sizeof a.minus);
        memcpy(g->cut + first, a.cut, sizeof a.cut);
        memcpy(g->from + first, a.from, sizeof a.from);
        note_odd(g, a.odd, first, type->n_groups);
    }
}

LANES_INLINE void fit_positive_blocks(groups *g, const lb_affine_type *type, const float *v,
                                      u8 (*q)[16], float *scale) {
    alignas(64) float t[16 * LANES], w[16 * LANES];
    const size_t n = type->n_groups;
    positive_lanes p;
    by_block(t, v, n, g->n_blocks);
    by_block(w, g->sum_w, n, g->n_blocks);
    fit_positive_lanes(n, type->sc_max, t, w, &p);
    for (size_t k = 0; k < g->n_blocks; k++) {
        for (size_t j = 0; j < n; j++)
            q[k][j] = p.q[j][k];
        scale[k] = p.scale[k];
    }
    note_odd(g, p.odd, 0, 1);
}

LANES_INLINE void fit_affine_blocks(const lb_affine_type *type, groups *g, size_t n_blocks,
                                    const float *x, const float *importance) {
    const size_t n = type->n_groups;
    g->n_blocks = n_blocks;
    memset(g->odd, 0, sizeof g->odd);
    if (importance)
        mean_squares(g, x, type->sigma);
    fit_affine_groups(type, g, x, importance);
    if (importance) {
        fit_positive_blocks(g, type, g->scale, g->sc, g->d);
        fit_positive_blocks(g, type, g->minus, g->m, g->dmin);
        return;
    }
    for (size_t k = 0; k < n_blocks; k++) {
        g->d[k] = lb_k_scale_codes(n, type->sc_max, g->scale + n * k, g->sc[k]);
        g->dmin[k] = lb_k_scale_codes(n, type->sc_max, g->minus + n * k, g->m[k]);
    }
}

/* Codes of a block's values by what is stored: sc and m of each group. */
LANES_INLINE void affine_values(const lb_affine_type *type, const groups *g, size_t k,
                                const float *x, const u8 *sc, const u8 *m, u8 *q) {
    const size_t n = type->group_elems;
    const i32 q_max = type->plain.q_max;
    const float d = lb_f16_to_f32(lb_quant_f16(g->d[k]));
    const float dmin = lb_f16_to_f32(lb_quant_f16(g->dmin[k]));
    for (size_t j = 0; j < type->n_groups; j++) {
        const size_t group = type->n_groups * k + j;
        const float dl = d * (float)sc[j], ml = dmin * (float)m[j];
        if (dl != 0)
            codes_by_scale(n, x + n * j, ml, dl, 0, q_max, q + n * j);
        else
            codes_by_cut(n, x + n * j, g->cut[group], g->from[group], 0, q_max, q + n * j);
    }
}

static void quant_q2_k(size_t n_elems, void *out, const float *in, const float *importance,
                       const void *tables) {
    lb_block_q2_k *y = out;
    groups g;
    for (size_t at = 0; at < n_elems; at += LB_QK) {
        const size_t k = at / LB_QK % LANES;
        const float *const weights = importance ? importance + at : NULL;
        if (k == 0)
            fit_affine_blocks(&lb_affine_q2_k, &g, LB_MIN((n_elems - at) / LB_QK, (size_t)LANES),
                              in + at, weights);
        if (g.odd[k]) {
            lb_k_quant_q2_k_f32_ref(LB_QK, y++, in + at, weights, tables);
            continue;
        }
        u8 q[LB_QK], sc[16], m[16];
        for (size_t j = 0; j < 16; j++) {
            y->scales[j] = (u8)(g.sc[k][j] | g.m[k][j] << 4);
            sc[j] = y->scales[j] & 15;
            m[j] = y->scales[j] >> 4;
        }
        lb_store_u16(y->d, lb_quant_f16(g.d[k]));
        lb_store_u16(y->dmin, lb_quant_f16(g.dmin[k]));
        affine_values(&lb_affine_q2_k, &g, k, in + at, sc, m, q);
        lb_pack_2bit(y++->qs, q);
    }
}

/* Head and scales of a q4_k or q5_k block, codes of its values. */
LANES_INLINE void q45_block(const lb_affine_type *type, const groups *g, size_t k, const float *x,
                            u8 limit, lb_block_q4_k *head, u8 *q) {
    lb_k_fit b;
    u8 sc[8], m[8];
    memcpy(b.sc, g->sc[k], 8);
    memcpy(b.m, g->m[k], 8);
    lb_store_u16(head->d, lb_quant_f16(g->d[k]));
    lb_store_u16(head->dmin, lb_quant_f16(g->dmin[k]));
    lb_put_k4_scales(head->scales, &b, limit);
    lb_k4_scales(head->scales, sc, m);
    affine_values(type, g, k, x, sc, m, q);
}

static void quant_q4_k(size_t n_elems, void *out, const float *in, const float *importance,
                       const void *tables) {
    lb_block_q4_k *y = out;
    groups g;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const size_t k = at / LB_QK % LANES;
        const float *const weights = importance ? importance + at : NULL;
        u8 q[LB_QK];
        if (k == 0)
            fit_affine_blocks(&lb_affine_q4_k, &g, LB_MIN((n_elems - at) / LB_QK, (size_t)LANES),
                              in + at, weights);
        if (g.odd[k]) {
            lb_k_quant_q4_k_f32_ref(LB_QK, y, in + at, weights, tables);
            continue;
        }
        q45_block(&lb_affine_q4_k, &g, k, in + at, importance ? 255 : 63, y, q);
        lb_pack_4bit(y->qs, q);
    }
}

static void quant_q5_k(size_t n_elems, void *out, const float *in, const float *importance,
                       const void *tables) {
    lb_block_q5_k *y = out;
    groups g;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const size_t k = at / LB_QK % LANES;
        const float *const weights = importance ? importance + at : NULL;
        lb_block_q4_k head;
        u8 q[LB_QK];
        if (k == 0)
            fit_affine_blocks(&lb_affine_q5_k, &g, LB_MIN((n_elems - at) / LB_QK, (size_t)LANES),
                              in + at, weights);
        if (g.odd[k]) {
            lb_k_quant_q5_k_f32_ref(LB_QK, y, in + at, weights, tables);
            continue;
        }
        q45_block(&lb_affine_q5_k, &g, k, in + at, 63, &head, q);
        memcpy(y, &head, offsetof(lb_block_q5_k, qh)); /* both begin alike */
        lb_pack_4bit(y->qs, q);
        lb_pack_1bit(y->qh, q, 4);
    }
}

#endif
#endif
