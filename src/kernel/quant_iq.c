/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq.c: f32 to the iq2 and iq3 types (quant.h), around the searches of quant_iq_ref.c and its
 * faster versions.
 *
 * All five do the same for every group of 16 or 32 values: signs apart, then trial scales; for each
 * the magnitudes are rounded to levels and, 8 or 4 at a time, moved to the codebook; the trial with
 * the least weighted error gives the scale, by which the points are chosen once more. */
#include "kernel/quant_iq.h"
#include "kernel/blocks_k.h"
#include "kernel/kernel.h"

lb_iq_sums lb_iq_sums_of(const lb_iq_group *s, const lb_iq_choice *c) {
    lb_iq_sums t = {0, 0};
    for (u32 i = 0; i < s->n; i++) {
        const u32 dims = s->g->dims;
        const float q = (float)(2 * lb_grid_level(s->g, c->packed[i / dims], i % dims) + 1);
        t.xq += s->w[i] * s->x[i] * q;
        t.qq += s->w[i] * q * q;
    }
    return t;
}

static float refine(const lb_iq_group *s, const lb_iq_search *f, float scale, lb_iq_choice *c) {
    bool any = s->m->refine == LB_AGAIN_ALL;
    for (u32 k = 0; k < s->n_points; k++)
        any = any || c->moved[k];
    if (!any || !(scale > 0))
        return scale;
    for (u32 k = 0; k < s->n_points; k++)
        if (c->moved[k] || s->m->refine != LB_AGAIN_MOVED)
            f->point(s, k, 1 / scale, scale, c);
    const lb_iq_sums t = lb_iq_sums_of(s, c);
    return t.qq > 0 ? t.xq / t.qq : scale;
}

/* The scale of a group and its points; false: the group is zero and stores nothing. */
static bool fit(lb_iq_group *s, const lb_iq_search *f, lb_iq_choice *c, float *result) {
    const lb_iq_method *m = s->m;
    const float top = (float)(2 * s->g->base - 1);
    float max = s->x[0];
    memset(c, 0, sizeof *c);
    *result = 0;
    for (u32 i = 1; i < s->n; i++)
        max = max > s->x[i] ? max : s->x[i];
    if (max < m->tiny)
        return false;
    float scale = max / top;
    if (m->fit_first) {
        u8 unused[LB_IQ_GROUP];
        scale = f->positive(s->n, (i32)s->g->base + 1, s->x, s->w, unused);
        max = scale * (float)s->g->base;
        if (max <= 0)
            return false;
    }
    for (u32 k = 0; k < s->n_points; k++)
        c->moved[k] = m->refine == LB_AGAIN_ALL_IF_ANY;
    scale = f->trials(s, max, scale, c);
    scale = refine(s, f, scale, c);
    if (scale < 0) { /* with even signs: a group of hardly anything but the one negative value */
        scale = -scale;
        for (u32 k = 0; k < s->n / 8; k++)
            s->signs[k] = (u8)(~s->signs[k] & (m->even_signs ? 127 : 255));
    }
    *result = scale;
    return true;
}

/* Eight values to magnitudes and signs. */
static u8 split_signs(const float *x, const float *w, bool even, float *magnitude) {
    u8 signs = 0;
    for (u32 i = 0; i < 8; i++) {
        magnitude[i] = x[i] >= 0 ? x[i] : -x[i];
        signs |= (u8)(!(x[i] >= 0) << i);
    }
    if (!even)
        return signs;
    bool odd = false;
    for (u32 i = 0; i < 8; i++)
        odd ^= signs >> i & 1;
    if (odd) {
        u32 least = 0;
        float least_cost = w[0] * x[0] * x[0];
        for (u32 i = 1; i < 8; i++) {
            const float cost = w[i] * x[i] * x[i];
            if (cost < least_cost) {
                least_cost = cost;
                least = i;
            }
        }
        magnitude[least] = -magnitude[least];
        signs ^= (u8)(1 << least);
    }
    return signs & 127;
}

static void start_group(lb_iq_group *s, const float *x, const float *importance, float sigma2) {
    if (importance)
        lb_quant_weights(s->w, importance, x, s->n, sigma2);
    for (u32 i = 0; i < s->n; i++) {
        if (!importance)
            s->w[i] =
                s->m->plain_sigma != 0 ? s->m->plain_sigma * sigma2 + x[i] * x[i] : x[i] * x[i];
        s->root[i] = sqrtf(s->w[i]);
    }
    for (u32 k = 0; k < s->n; k += 8)
        s->signs[k / 8] = split_signs(x + k, s->w + k, s->m->even_signs, s->x + k);
}

/* What a block of 256 values becomes: points and signs of its groups, codes of their scales. */
typedef struct block {
    u16 index[64];
    u8 signs[32];
    u8 sc[16];
    u16 d;
    u16 empty; /* bit a group: it is zero */
} block;

/* False: a block of zeros, of which only index and signs are set. */
static bool quant_block(const lb_iq_method *m, const lb_iq_search *f, const lb_grid *g,
                        const float *x, const float *importance, block *b) {
    lb_iq_group s = {.m = m, .g = g, .n = m->group_elems, .n_points = m->group_elems / g->dims};
    const float sigma2 = m->sigma * lb_sum_squares(x, LB_QK) / LB_QK;
    const u32 n_groups = LB_QK / m->group_elems;
    float scale[16], max = 0;
    memset(b, 0, sizeof *b);
    for (u32 j = 0; j < n_groups; j++) {
        lb_iq_choice c;
        start_group(&s, x + s.n * j, importance ? importance + s.n * j : NULL, sigma2);
        if (!fit(&s, f, &c, scale + j)) {
            b->empty |= (u16)(1u << j);
            continue;
        }
        memcpy(b->index + s.n_points * j, c.index, s.n_points * sizeof(u16));
        memcpy(b->signs + s.n / 8 * j, s.signs, s.n / 8);
        max = max > scale[j] ? max : scale[j];
    }
    if (max == 0)
        return false;
    const float d = max / 31, inverse = 1 / d;
    b->d = lb_quant_f16(d * m->stored);
    for (u32 j = 0; j < n_groups; j++)
        b->sc[j] = (u8)lb_clamp(lb_nearest(0.5f * (inverse * scale[j] - 1)), 0, 15);
    return true;
}

void lb_iq_quant_iq2_xxs(size_t n_elems, void *out, const float *in, const float *importance,
                         const void *tables, const lb_iq_search *f) {
    static const lb_iq_method m = {.group_elems = 32,
                                   .n_trials = 6,
                                   .step = 0.1f,
                                   .tiny = LB_QUANT_TINY,
                                   .refine = LB_AGAIN_ALL,
                                   .even_signs = true,
                                   .fit_first = true,
                                   .sigma = 1,
                                   .stored = 1};
    LB_ASSERT(importance);
    lb_block_iq2_xxs *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        if (!quant_block(&m, f, tables, in + at, importance + at, &b))
            continue;
        lb_store_u16(y->d, b.d);
        for (u32 j = 0; j < 8; j++) {
            u32 aux = (u32)b.sc[j] << 28;
            for (u32 k = 0; k < 4; k++) {
                y->qs[8 * j + k] = (u8)b.index[4 * j + k];
                aux |= (u32)b.signs[4 * j + k] << 7 * k;
            }
            lb_store_u32(y->qs + 8 * j + 4, aux);
        }
    }
}

void lb_iq_quant_iq2_xs(size_t n_elems, void *out, const float *in, const float *importance,
                        const void *tables, const lb_iq_search *f) {
    static const lb_iq_method m = {.group_elems = 16,
                                   .n_trials = 9,
                                   .step = 0.1f,
                                   .tiny = LB_QUANT_TINY,
                                   .refine = LB_AGAIN_MOVED,
                                   .even_signs = true,
                                   .sigma = 1,
                                   .stored = 1};
    LB_ASSERT(importance);
    lb_block_iq2_xs *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        if (!quant_block(&m, f, tables, in + at, importance + at, &b))
            continue;
        lb_store_u16(y->d, b.d);
        for (u32 k = 0; k < 32; k++)
            lb_store_u16(y->qs + 2 * k, (u16)(b.index[k] | b.signs[k] << 9));
        for (u32 j = 0; j < 8; j++)
            y->scales[j] = (u8)(b.sc[2 * j] | b.sc[2 * j + 1] << 4);
    }
}

void lb_iq_quant_iq2_s(size_t n_elems, void *out, const float *in, const float *importance,
                       const void *tables, const lb_iq_search *f) {
    static const lb_iq_method m = {.group_elems = 16,
                                   .n_trials = 9,
                                   .step = 0.1f,
                                   .tiny = 1e-8f,
                                   .refine = LB_AGAIN_MOVED,
                                   .sigma = 2,
                                   .stored = 0.9875f,
                                   .plain_sigma = 0.25f};
    lb_block_iq2_s *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        quant_block(&m, f, tables, in + at, importance ? importance + at : NULL, &b);
        lb_store_u16(y->d, b.d);
        memcpy(y->signs, b.signs, sizeof y->signs);
        for (u32 k = 0; k < 32; k++) {
            y->qs[k] = (u8)b.index[k];
            y->qh[k / 4] |= (u8)(b.index[k] >> 8 << 2 * (k % 4));
        }
        for (u32 j = 0; j < 8; j++)
            y->scales[j] = (u8)(b.sc[2 * j] | b.sc[2 * j + 1] << 4);
    }
}

void lb_iq_quant_iq3_xxs(size_t n_elems, void *out, const float *in, const float *importance,
                         const void *tables, const lb_iq_search *f) {
    static const lb_iq_method m = {.group_elems = 32,
                                   .n_trials = 15,
                                   .step = 0.2f,
                                   .tiny = 1e-8f,
                                   .refine = LB_AGAIN_MOVED,
                                   .even_signs = true,
                                   .sigma = 2,
                                   .stored = 1.0125f};
    lb_block_iq3_xxs *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        if (!quant_block(&m, f, tables, in + at, importance ? importance + at : NULL, &b))
            continue;
        lb_store_u16(y->d, b.d);
        for (u32 k = 0; k < 64; k++)
            y->qs[k] = (u8)b.index[k];
        for (u32 j = 0; j < 8; j++) {
            u32 aux = (u32)b.sc[j] << 28;
            for (u32 k = 0; k < 4; k++)
                aux |= (u32)b.signs[4 * j + k] << 7 * k;
            lb_store_u32(y->aux + 4 * j, aux);
        }
    }
}

void lb_iq_quant_iq3_s(size_t n_elems, void *out, const float *in, const float *importance,
                       const void *tables, const lb_iq_search *f) {
    static const lb_iq_method m = {.group_elems = 32,
                                   .n_trials = 9,
                                   .step = 0.2f,
                                   .tiny = 0x1p-149f, /* above zero */
                                   .refine = LB_AGAIN_ALL_IF_ANY,
                                   .sigma = 2,
                                   .stored = 1.033f};
    lb_block_iq3_s *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        quant_block(&m, f, tables, in + at, importance ? importance + at : NULL, &b);
        lb_store_u16(y->d, b.d);
        /* As ggml: behind a group of zeros the lower bits and signs of the next ones stand where
         * its own would, the upper bits in their places. Such a block does not decode to what was
         * quantized; refine.h mends it. */
        for (u32 j = 0, to = 0; j < 8; j++) {
            if (b.empty >> j & 1)
                continue;
            for (u32 k = 0; k < 8; k++) {
                y->qs[8 * to + k] = (u8)b.index[8 * j + k];
                y->qh[j] |= (u8)(b.index[8 * j + k] >> 8 << k);
            }
            memcpy(y->signs + 4 * to, b.signs + 4 * j, 4);
            to++;
        }
        for (u32 j = 0; j < 4; j++)
            y->scales[j] = (u8)(b.sc[2 * j] | b.sc[2 * j + 1] << 4);
    }
}
