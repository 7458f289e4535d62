/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k_ref.c: f32 to K-quant blocks, the scalar definition (quant.h).
 *
 * Each type: a scale (and minimum) for every sub-block by a search, then those scales as codes of
 * the block's f16 scale, then every value's code again by what was stored. A sub-block whose stored
 * scale is zero keeps the codes of the search. */
#include "kernel/kernel.h"
#include "kernel/quant_k.h"

/* Codes of n values by the scale and minimum that were stored. */
static void final_affine(size_t n, i32 q_max, const float *x, float d, float dm, u8 *q) {
    if (d == 0)
        return;
    for (size_t i = 0; i < n; i++)
        q[i] = (u8)lb_clamp(lb_nearest((x[i] + dm) / d), 0, q_max);
}

static void final_symmetric(size_t n, i32 q_max, const float *x, float d, u8 *q) {
    if (d == 0)
        return;
    for (size_t i = 0; i < n; i++)
        q[i] = (u8)(lb_clamp(lb_nearest(x[i] / d), -q_max, q_max - 1) + q_max);
}

/* ---- q2_k, q4_k, q5_k ---- */

/* Weights of a group without importance. */
static void plain_weights(const lb_affine_type *t, const float *x, float *w) {
    const u32 n = t->group_elems; /* q2_k: |x|, the others add the root of the mean square */
    const float root = n == 32 ? sqrtf(lb_sum_squares(x, n) / (float)n) : 0;
    for (u32 i = 0; i < n; i++)
        w[i] = n == 32 ? root + fabsf(x[i]) : fabsf(x[i]);
}

static void fit_affine(const lb_affine_type *t, lb_k_fit *b, const float *x,
                       const float *importance) {
    const u32 n = t->group_elems;
    const float sigma2 = importance ? t->sigma * lb_sum_squares(x, LB_QK) / LB_QK : 0;
    float w[32], sum_w[16];
    for (u32 j = 0; j < t->n_groups; j++) {
        if (importance)
            lb_quant_weights(w, importance + n * j, x + n * j, n, sigma2);
        else
            plain_weights(t, x + n * j, w);
        sum_w[j] = 0;
        for (u32 i = 0; i < n; i++)
            sum_w[j] += w[i];
        b->scale[j] = lb_fit_affine(importance ? &t->weighted : &t->plain, n, x + n * j, w,
                                    b->q + n * j, b->minus + j);
    }
    if (importance) {
        b->d = lb_quant_f16(lb_fit_positive(t->n_groups, t->sc_max, b->scale, sum_w, b->sc));
        b->dmin = lb_quant_f16(lb_fit_positive(t->n_groups, t->sc_max, b->minus, sum_w, b->m));
    } else {
        b->d = lb_quant_f16(lb_k_scale_codes(t->n_groups, t->sc_max, b->scale, b->sc));
        b->dmin = lb_quant_f16(lb_k_scale_codes(t->n_groups, t->sc_max, b->minus, b->m));
    }
}

void lb_k_quant_q2_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    lb_block_q2_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const float *x = in + at;
        lb_k_fit b;
        fit_affine(&lb_affine_q2_k, &b, x, importance ? importance + at : NULL);
        lb_store_u16(y->d, b.d);
        lb_store_u16(y->dmin, b.dmin);
        const float d = lb_f16_to_f32(b.d), dmin = lb_f16_to_f32(b.dmin);
        for (size_t j = 0; j < 16; j++) {
            y->scales[j] = (u8)(b.sc[j] | b.m[j] << 4);
            final_affine(16, 3, x + 16 * j, d * (float)(y->scales[j] & 15),
                         dmin * (float)(y->scales[j] >> 4), b.q + 16 * j);
        }
        lb_pack_2bit(y->qs, b.q);
    }
}

static void final_q45(lb_k_fit *b, i32 q_max, const float *x, const u8 *scales) {
    const float d = lb_f16_to_f32(b->d), dmin = lb_f16_to_f32(b->dmin);
    u8 sc[8], m[8];
    lb_k4_scales(scales, sc, m);
    for (size_t j = 0; j < 8; j++)
        final_affine(32, q_max, x + 32 * j, d * (float)sc[j], dmin * (float)m[j], b->q + 32 * j);
}

void lb_k_quant_q4_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    lb_block_q4_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        lb_k_fit b;
        fit_affine(&lb_affine_q4_k, &b, in + at, importance ? importance + at : NULL);
        lb_store_u16(y->d, b.d);
        lb_store_u16(y->dmin, b.dmin);
        lb_put_k4_scales(y->scales, &b, importance ? 255 : 63);
        final_q45(&b, 15, in + at, y->scales);
        lb_pack_4bit(y->qs, b.q);
    }
}

void lb_k_quant_q5_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    lb_block_q5_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        lb_k_fit b;
        fit_affine(&lb_affine_q5_k, &b, in + at, importance ? importance + at : NULL);
        lb_store_u16(y->d, b.d);
        lb_store_u16(y->dmin, b.dmin);
        lb_put_k4_scales(y->scales, &b, 63);
        final_q45(&b, 31, in + at, y->scales);
        lb_pack_4bit(y->qs, b.q);
        lb_pack_1bit(y->qh, b.q, 4);
    }
}

/* ---- q3_k ---- */

static void fit_q3(lb_k_fit *b, const float *x, const float *importance) {
    const float sigma2 = importance ? 2 * lb_sum_squares(x, LB_QK) / LB_QK : 0;
    float w[16], sum_w[16];
    for (size_t j = 0; j < 16; j++) {
        const float *xs = x + 16 * j;
        if (!importance) {
            b->scale[j] = lb_fit_by_codes(16, 4, xs, b->q + 16 * j);
            continue;
        }
        lb_quant_weights(w, importance + 16 * j, xs, 16, sigma2);
        sum_w[j] = 0;
        for (size_t i = 0; i < 16; i++)
            sum_w[j] += w[i];
        b->scale[j] = lb_fit_symmetric(16, 4, xs, w, b->q + 16 * j);
    }
    b->d = lb_quant_f16(importance ? lb_fit_symmetric(16, 32, b->scale, sum_w, b->sc)
                                   : lb_k3_scale_codes(b->scale, b->sc));
}

void lb_k_quant_q3_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    lb_block_q3_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        lb_k_fit b;
        fit_q3(&b, in + at, importance ? importance + at : NULL);
        lb_store_u16(y->d, b.d);
        lb_put_k3_scales(y->scales, b.sc);
        for (size_t j = 0; j < 16; j++)
            final_symmetric(16, 4, in + at + 16 * j, lb_f16_to_f32(b.d) * (float)(b.sc[j] - 32),
                            b.q + 16 * j);
        lb_pack_1bit(y->hmask, b.q, 2);
        for (size_t j = 0; j < LB_QK; j++)
            b.q[j] &= 3;
        lb_pack_2bit(y->qs, b.q);
    }
}

/* ---- q6_k ---- */

void lb_k_quant_q6_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    lb_block_q6_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        u8 q[LB_QK];
        float scale[16];
        for (size_t j = 0; j < 16; j++)
            scale[j] = lb_fit_symmetric(16, 32, in + at + 16 * j,
                                        importance ? importance + at + 16 * j : NULL, q + 16 * j);
        const float most = lb_k_extreme(scale, 16);
        if (fabsf(most) < LB_QUANT_TINY) {
            memset(y, 0, sizeof *y);
            continue;
        }
        const float inverse = -128.0f / most;
        const u16 d = lb_quant_f16(1 / inverse);
        lb_store_u16(y->d, d);
        for (size_t j = 0; j < 16; j++) {
            const i8 sc = (i8)LB_MIN(127, lb_nearest(inverse * scale[j]));
            y->scales[j] = (u8)sc;
            final_symmetric(16, 32, in + at + 16 * j, lb_f16_to_f32(d) * (float)sc, q + 16 * j);
        }
        lb_pack_q6(y, q);
    }
}
