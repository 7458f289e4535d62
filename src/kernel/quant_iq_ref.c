/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq_ref.c: f32 to the iq2 and iq3 types, the scalar definition (quant.h).
 *
 * All five do the same for every group of 16 or 32 values: signs apart, then trial scales; for each
 * the magnitudes are rounded to levels and, 8 or 4 at a time, moved to the codebook; the trial with
 * the least weighted error gives the scale, by which the points are chosen once more. */
#include "kernel/blocks_k.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"
#include "kernel/quant.h"
#include "kernel/quant_grid.h"

enum { MAX_GROUP = 32, MAX_POINTS = 8 };

/* Which points are chosen again by the best scale. */
typedef enum again {
    AGAIN_ALL,        /* all of them */
    AGAIN_ALL_IF_ANY, /* all where one of the best trial's was off the codebook, or no trial was
                         good */
    AGAIN_MOVED,      /* those that were off it */
} again;

typedef struct method {
    u32 group_elems;
    i32 n_trials; /* on each side of the middle one */
    float step;
    float tiny; /* a group with no larger magnitude is zero */
    again refine;
    bool
        even_signs; /* seven signs for 8 values: an odd number of minuses loses the least of them */
    bool fit_first; /* the middle trial is that of a fit, not the largest magnitude */
    float sigma;    /* sigma2 is this often the mean square */
    float stored;   /* the block's scale is stored so much larger */
    float plain_sigma; /* weights without importance: x^2 + this * sigma2 */
} method;

/* The chosen points of a group. */
typedef struct choice {
    u16 index[MAX_POINTS];
    u16 packed[MAX_POINTS];
    bool moved[MAX_POINTS]; /* the rounded values were off the codebook */
} choice;

typedef struct group {
    const method *m;
    const lb_grid *g;
    u32 n, n_points;
    float x[MAX_GROUP];    /* magnitudes; with even_signs the least of 8 may be negative */
    float w[MAX_GROUP];    /* weights of squared errors */
    float root[MAX_GROUP]; /* their roots: weights in the choice of a point */
    u8 signs[4];
} group;

static const float odd_values[8] = {1, 3, 5, 7, 9, 11, 13, 15}; /* the value of a level */

/* Point k of the group for a scale. */
static void choose_point(const group *s, u32 k, float inverse, float scale, choice *c) {
    const lb_grid *g = s->g;
    const float *x = s->x + g->dims * k;
    u32 key = 0, power = 1;
    for (u32 i = 0; i < g->dims; i++, power *= g->base)
        key += power * (u32)lb_clamp(lb_nearest(0.5f * (inverse * x[i] - 1)), 0, (i32)g->base - 1);
    c->moved[k] = g->at[key] < 0;
    if (c->moved[k]) {
        const u32 entry = lb_grid_nearest(g, key, x, s->root + g->dims * k, scale, odd_values);
        c->packed[k] = (u16)entry;
        c->index[k] = (u16)(entry >> 16);
    } else {
        c->index[k] = (u16)g->at[key];
        c->packed[k] = g->point[c->index[k]];
    }
}

typedef struct sums {
    float xq, qq;
} sums;

static sums sums_of(const group *s, const choice *c) {
    sums t = {0, 0};
    for (u32 i = 0; i < s->n; i++) {
        const u32 dims = s->g->dims;
        const float q = (float)(2 * lb_grid_level(s->g, c->packed[i / dims], i % dims) + 1);
        t.xq += s->w[i] * s->x[i] * q;
        t.qq += s->w[i] * q * q;
    }
    return t;
}

static float refine(const group *s, float scale, choice *c) {
    bool any = s->m->refine == AGAIN_ALL;
    for (u32 k = 0; k < s->n_points; k++)
        any = any || c->moved[k];
    if (!any || !(scale > 0))
        return scale;
    for (u32 k = 0; k < s->n_points; k++)
        if (c->moved[k] || s->m->refine != AGAIN_MOVED)
            choose_point(s, k, 1 / scale, scale, c);
    const sums t = sums_of(s, c);
    return t.qq > 0 ? t.xq / t.qq : scale;
}

/* The scale of a group and its points; false: the group is zero and stores nothing. */
static bool fit(group *s, choice *c, float *result) {
    const method *m = s->m;
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
        u8 unused[MAX_GROUP];
        scale = lb_fit_positive(s->n, (i32)s->g->base + 1, s->x, s->w, unused);
        max = scale * (float)s->g->base;
        if (max <= 0)
            return false;
    }
    for (u32 k = 0; k < s->n_points; k++)
        c->moved[k] = m->refine == AGAIN_ALL_IF_ANY;
    float best = 0;
    for (i32 k = -m->n_trials; k <= m->n_trials; k++) {
        const float inverse = (top + (float)k * m->step) / max;
        choice trial;
        for (u32 p = 0; p < s->n_points; p++)
            choose_point(s, p, inverse, 1 / inverse, &trial);
        const sums t = sums_of(s, &trial);
        if (t.qq > 0 && t.xq * t.xq > best * t.qq) {
            scale = t.xq / t.qq;
            best = scale * t.xq;
            *c = trial;
        }
    }
    scale = refine(s, scale, c);
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

static void start_group(group *s, const float *x, const float *importance, float sigma2) {
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
} block;

/* False: a block of zeros, of which only index and signs are set. */
static bool quant_block(const method *m, const lb_grid *g, const float *x, const float *importance,
                        block *b) {
    group s = {.m = m, .g = g, .n = m->group_elems, .n_points = m->group_elems / g->dims};
    const float sigma2 = m->sigma * lb_sum_squares(x, LB_QK) / LB_QK;
    const u32 n_groups = LB_QK / m->group_elems;
    float scale[16], max = 0;
    memset(b, 0, sizeof *b);
    for (u32 j = 0; j < n_groups; j++) {
        choice c;
        start_group(&s, x + s.n * j, importance ? importance + s.n * j : NULL, sigma2);
        if (!fit(&s, &c, scale + j))
            continue;
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

void lb_k_quant_iq2_xxs_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                                const void *tables) {
    static const method m = {.group_elems = 32,
                             .n_trials = 6,
                             .step = 0.1f,
                             .tiny = LB_QUANT_TINY,
                             .refine = AGAIN_ALL,
                             .even_signs = true,
                             .fit_first = true,
                             .sigma = 1,
                             .stored = 1};
    LB_ASSERT(importance);
    lb_block_iq2_xxs *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        if (!quant_block(&m, tables, in + at, importance + at, &b))
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

void lb_k_quant_iq2_xs_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                               const void *tables) {
    static const method m = {.group_elems = 16,
                             .n_trials = 9,
                             .step = 0.1f,
                             .tiny = LB_QUANT_TINY,
                             .refine = AGAIN_MOVED,
                             .even_signs = true,
                             .sigma = 1,
                             .stored = 1};
    LB_ASSERT(importance);
    lb_block_iq2_xs *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        if (!quant_block(&m, tables, in + at, importance + at, &b))
            continue;
        lb_store_u16(y->d, b.d);
        for (u32 k = 0; k < 32; k++)
            lb_store_u16(y->qs + 2 * k, (u16)(b.index[k] | b.signs[k] << 9));
        for (u32 j = 0; j < 8; j++)
            y->scales[j] = (u8)(b.sc[2 * j] | b.sc[2 * j + 1] << 4);
    }
}

void lb_k_quant_iq2_s_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    static const method m = {.group_elems = 16,
                             .n_trials = 9,
                             .step = 0.1f,
                             .tiny = 1e-8f,
                             .refine = AGAIN_MOVED,
                             .sigma = 2,
                             .stored = 0.9875f,
                             .plain_sigma = 0.25f};
    lb_block_iq2_s *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        quant_block(&m, tables, in + at, importance ? importance + at : NULL, &b);
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

void lb_k_quant_iq3_xxs_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                                const void *tables) {
    static const method m = {.group_elems = 32,
                             .n_trials = 15,
                             .step = 0.2f,
                             .tiny = 1e-8f,
                             .refine = AGAIN_MOVED,
                             .even_signs = true,
                             .sigma = 2,
                             .stored = 1.0125f};
    lb_block_iq3_xxs *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        if (!quant_block(&m, tables, in + at, importance ? importance + at : NULL, &b))
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

void lb_k_quant_iq3_s_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    static const method m = {.group_elems = 32,
                             .n_trials = 9,
                             .step = 0.2f,
                             .tiny = 0x1p-149f, /* above zero */
                             .refine = AGAIN_ALL_IF_ANY,
                             .sigma = 2,
                             .stored = 1.033f};
    lb_block_iq3_s *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        block b;
        memset(y, 0, sizeof *y);
        quant_block(&m, tables, in + at, importance ? importance + at : NULL, &b);
        lb_store_u16(y->d, b.d);
        memcpy(y->signs, b.signs, sizeof y->signs);
        for (u32 k = 0; k < 64; k++) {
            y->qs[k] = (u8)b.index[k];
            y->qh[k / 8] |= (u8)(b.index[k] >> 8 << k % 8);
        }
        for (u32 j = 0; j < 4; j++)
            y->scales[j] = (u8)(b.sc[2 * j] | b.sc[2 * j + 1] << 4);
    }
}
