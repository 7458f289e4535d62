/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k_ref.c: f32 to K-quant blocks, the scalar definition (quant.h).
 *
 * Each type: a scale (and minimum) for every sub-block by a search, then those scales as codes of
 * the block's f16 scale, then every value's code again by what was stored. A sub-block whose stored
 * scale is zero keeps the codes of the search. */
#include "kernel/blocks_k.h"
#include "kernel/kernel.h"
#include "kernel/quant.h"

/* Scale and minimum of the 8 or 16 sub-blocks of a block, as codes and in f16. */
typedef struct block_fit {
    u8 q[LB_QK];
    float scale[16], minus[16]; /* of the search */
    u8 sc[16], m[16];           /* codes */
    u16 d, dmin;
} block_fit;

/* Codes 0..63 (15) of positive values in equal parts of their largest. */
static float scale_codes(size_t n, i32 q_max, const float *v, u8 *q) {
    float max = 0;
    for (size_t j = 0; j < n; j++)
        max = v[j] > max ? v[j] : max;
    const float inverse = max > 0 ? (float)q_max / max : 0;
    for (size_t j = 0; j < n; j++)
        q[j] = (u8)lb_nearest(inverse * v[j]);
    return max / (float)q_max;
}

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

/* Two bits of every value: two halves of 128, runs of 32. */
static void pack_2bit(u8 *qs, const u8 *q) {
    for (size_t j = 0; j < 64; j++) {
        const u8 *p = q + j / 32 * 128 + j % 32;
        qs[j] = (u8)(p[0] | p[32] << 2 | p[64] << 4 | p[96] << 6);
    }
}

/* ---- q2_k ---- */

static void fit_q2(block_fit *b, const float *x, const float *importance) {
    static const lb_affine_search plain = {3, -0.5f, 0.1f, 15, true};
    static const lb_affine_search weighted = {3, -0.9f, 0.05f, 36, false};
    const float sigma2 = importance ? lb_sum_squares(x, LB_QK) / LB_QK : 0;
    float w[16], sum_w[16];
    for (size_t j = 0; j < 16; j++) {
        sum_w[j] = 0;
        if (importance)
            lb_quant_weights(w, importance + 16 * j, x + 16 * j, 16, sigma2);
        for (size_t i = 0; i < 16; i++) {
            w[i] = importance ? w[i] : fabsf(x[16 * j + i]);
            sum_w[j] += w[i];
        }
        b->scale[j] = lb_fit_affine(importance ? &weighted : &plain, 16, x + 16 * j, w,
                                    b->q + 16 * j, b->minus + j);
    }
    if (importance) {
        b->d = lb_quant_f16(lb_fit_positive(16, 15, b->scale, sum_w, b->sc));
        b->dmin = lb_quant_f16(lb_fit_positive(16, 15, b->minus, sum_w, b->m));
    } else {
        b->d = lb_quant_f16(scale_codes(16, 15, b->scale, b->sc));
        b->dmin = lb_quant_f16(scale_codes(16, 15, b->minus, b->m));
    }
}

void lb_k_quant_q2_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    lb_block_q2_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const float *x = in + at;
        block_fit b;
        fit_q2(&b, x, importance ? importance + at : NULL);
        lb_store_u16(y->d, b.d);
        lb_store_u16(y->dmin, b.dmin);
        const float d = lb_f16_to_f32(b.d), dmin = lb_f16_to_f32(b.dmin);
        for (size_t j = 0; j < 16; j++) {
            y->scales[j] = (u8)(b.sc[j] | b.m[j] << 4);
            final_affine(16, 3, x + 16 * j, d * (float)(y->scales[j] & 15),
                         dmin * (float)(y->scales[j] >> 4), b.q + 16 * j);
        }
        pack_2bit(y->qs, b.q);
    }
}

/* ---- q3_k ---- */

/* Codes 0..63 of the 16 signed scales; returns the block's scale. */
static float q3_scale_codes(const float *scale, u8 *sc) {
    float most = 0, magnitude = 0;
    for (size_t j = 0; j < 16; j++)
        if (fabsf(scale[j]) > magnitude) {
            magnitude = fabsf(scale[j]);
            most = scale[j];
        }
    memset(sc, 0, 16); /* as in ggml, a block of zeros has the scales' bits zero, which is -32 */
    if (most == 0)
        return 0;
    const float inverse = -32.0f / most;
    for (size_t j = 0; j < 16; j++)
        sc[j] = (u8)(lb_clamp((i8)lb_nearest(inverse * scale[j]), -32, 31) + 32);
    return 1 / inverse;
}

static void fit_q3(block_fit *b, const float *x, const float *importance) {
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
                                   : q3_scale_codes(b->scale, b->sc));
}

void lb_k_quant_q3_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    lb_block_q3_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block_fit b;
        fit_q3(&b, in + at, importance ? importance + at : NULL);
        memset(y->scales, 0, sizeof y->scales);
        lb_store_u16(y->d, b.d);
        for (size_t j = 0; j < 16; j++) {
            y->scales[j % 8] |= (u8)((b.sc[j] & 15) << j / 8 * 4);
            y->scales[8 + j % 4] |= (u8)(b.sc[j] >> 4 << 2 * (j / 4));
            final_symmetric(16, 4, in + at + 16 * j, lb_f16_to_f32(b.d) * (float)(b.sc[j] - 32),
                            b.q + 16 * j);
        }
        memset(y->hmask, 0, sizeof y->hmask);
        for (size_t j = 0; j < LB_QK; j++) {
            y->hmask[j % 32] |= (u8)(b.q[j] >> 2 << j / 32);
            b.q[j] &= 3;
        }
        pack_2bit(y->qs, b.q);
    }
}

/* ---- q4_k, q5_k ---- */

static void fit_q45(block_fit *b, const lb_affine_search *s, const float *x,
                    const float *importance) {
    const float sigma2 = importance ? 2 * lb_sum_squares(x, LB_QK) / LB_QK : 0;
    float w[32], sum_w[8];
    for (size_t j = 0; j < 8; j++) {
        const float *xs = x + 32 * j;
        if (importance)
            lb_quant_weights(w, importance + 32 * j, xs, 32, sigma2);
        const float mean = importance ? 0 : sqrtf(lb_sum_squares(xs, 32) / 32);
        sum_w[j] = 0;
        for (size_t i = 0; i < 32; i++) {
            w[i] = importance ? w[i] : mean + fabsf(xs[i]);
            sum_w[j] += w[i];
        }
        b->scale[j] = lb_fit_affine(s, 32, xs, w, b->q + 32 * j, b->minus + j);
    }
    if (importance) {
        b->d = lb_quant_f16(lb_fit_positive(8, 63, b->scale, sum_w, b->sc));
        b->dmin = lb_quant_f16(lb_fit_positive(8, 63, b->minus, sum_w, b->m));
    } else {
        b->d = lb_quant_f16(scale_codes(8, 63, b->scale, b->sc));
        b->dmin = lb_quant_f16(scale_codes(8, 63, b->minus, b->m));
    }
}

/* 6-bit scales and minimums (blocks_k.h). One above 63 is the code of a negative scale, which only
 * weights that are no importance make: q4_k with importance stores it as it is, as ggml does. */
static void pack_k4_scales(u8 *scales, const block_fit *b, u8 limit) {
    u8 s[8], t[8];
    for (size_t j = 0; j < 8; j++) {
        s[j] = LB_MIN(b->sc[j], limit);
        t[j] = LB_MIN(b->m[j], limit);
    }
    for (size_t j = 0; j < 4; j++) {
        scales[j] = (u8)(s[j] | s[j + 4] >> 4 << 6);
        scales[j + 4] = (u8)(t[j] | t[j + 4] >> 4 << 6);
        scales[j + 8] = (u8)((s[j + 4] & 15) | (t[j + 4] & 15) << 4);
    }
}

static void final_q45(block_fit *b, i32 q_max, const float *x, const u8 *scales) {
    const float d = lb_f16_to_f32(b->d), dmin = lb_f16_to_f32(b->dmin);
    u8 sc[8], m[8];
    lb_k4_scales(scales, sc, m);
    for (size_t j = 0; j < 8; j++)
        final_affine(32, q_max, x + 32 * j, d * (float)sc[j], dmin * (float)m[j], b->q + 32 * j);
}

void lb_k_quant_q4_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    static const lb_affine_search plain = {15, -1.0f, 0.1f, 20, false};
    static const lb_affine_search weighted = {15, -0.9f, 0.05f, 36, false};
    (void)tables;
    lb_block_q4_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block_fit b;
        fit_q45(&b, importance ? &weighted : &plain, in + at, importance ? importance + at : NULL);
        lb_store_u16(y->d, b.d);
        lb_store_u16(y->dmin, b.dmin);
        pack_k4_scales(y->scales, &b, importance ? 255 : 63);
        final_q45(&b, 15, in + at, y->scales);
        for (size_t j = 0; j < 128; j++) {
            const u8 *q = b.q + j / 32 * 64 + j % 32;
            y->qs[j] = (u8)(q[0] | q[32] << 4);
        }
    }
}

void lb_k_quant_q5_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    static const lb_affine_search plain = {31, -0.5f, 0.1f, 15, false};
    static const lb_affine_search weighted = {31, -0.9f, 0.05f, 36, false};
    (void)tables;
    lb_block_q5_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block_fit b;
        fit_q45(&b, importance ? &weighted : &plain, in + at, importance ? importance + at : NULL);
        lb_store_u16(y->d, b.d);
        lb_store_u16(y->dmin, b.dmin);
        pack_k4_scales(y->scales, &b, 63);
        final_q45(&b, 31, in + at, y->scales);
        memset(y->qh, 0, sizeof y->qh);
        for (size_t j = 0; j < LB_QK; j++)
            y->qh[j % 32] |= (u8)(b.q[j] >> 4 << j / 32);
        for (size_t j = 0; j < 128; j++) {
            const u8 *q = b.q + j / 32 * 64 + j % 32;
            y->qs[j] = (u8)((q[0] & 15) | (q[32] & 15) << 4);
        }
    }
}

/* ---- q6_k ---- */

static void pack_q6(lb_block_q6_k *y, const u8 *q) {
    for (size_t j = 0; j < 64; j++) {
        const u8 *p = q + j / 32 * 128 + j % 32;
        u8 *ql = y->ql + j / 32 * 64 + j % 32;
        ql[0] = (u8)((p[0] & 15) | (p[64] & 15) << 4);
        ql[32] = (u8)((p[32] & 15) | (p[96] & 15) << 4);
        y->qh[j] = (u8)(p[0] >> 4 | p[32] >> 4 << 2 | p[64] >> 4 << 4 | p[96] >> 4 << 6);
    }
}

void lb_k_quant_q6_k_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    lb_block_q6_k *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        u8 q[LB_QK];
        float scale[16], most = 0, magnitude = 0;
        for (size_t j = 0; j < 16; j++) {
            scale[j] = lb_fit_symmetric(16, 32, in + at + 16 * j,
                                        importance ? importance + at + 16 * j : NULL, q + 16 * j);
            if (fabsf(scale[j]) > magnitude) {
                magnitude = fabsf(scale[j]);
                most = scale[j];
            }
        }
        if (magnitude < LB_QUANT_TINY) {
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
        pack_q6(y, q);
    }
}
