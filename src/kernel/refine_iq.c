/* SPDX-License-Identifier: Apache-2.0 */
/* refine_iq.c: blocks of codebook points: the block's scale by least squares, the groups' scale
 * codes by the sums over their points, and points chosen again among all of the codebook.
 *
 * The cost of a point is a sum over its values of what their level costs. Levels are few, so the
 * costs of all combinations in each half of a point are tables (81 or 64 of them), and a point's
 * cost is one addition. */
#include "kernel/refine_iq.h"
#include "kernel/blocks_k.h"
#include "kernel/iq_tables.h"
#include "kernel/refine_fit.h"

#define ROUNDS 3

/* value = d * factor * (2 sc + 1) * y, y a signed level or, ternary, level +- 0.125. */
typedef struct iq_parts {
    float d;
    u32 sc[16];
    u16 index[64];
    u8 signs[32]; /* bit i: value i of the eight is negative */
    u8 minus[32]; /* ternary: -0.125 for these eight */
} iq_parts;

typedef struct lb_iq_form {
    lb_dtype dtype;
    u32 n_points, dims, n_levels;
    float levels[8];
    u32 group, sc_hi;
    float factor;
    bool even;    /* an even number of minuses in eight */
    bool ternary; /* shifted by +-0.125: of a group all alike, or of each eight (group 16) */
    void (*open)(const u8 *block, iq_parts *p);
    void (*close)(const iq_parts *p, u8 *block);
} lb_iq_form;

/* ---- fields ---- */

static float half_at(const u8 *p) {
    return lb_f16_to_f32(lb_load_u16(p));
}

static void put_half(u8 *p, float x) {
    lb_store_u16(p, lb_quant_f16(x));
}

static void open_2xxs(const u8 *block, iq_parts *p) {
    const lb_block_iq2_xxs *b = (const void *)block;
    p->d = half_at(b->d);
    for (u32 k = 0; k < 32; k++) {
        const u32 aux = lb_load_u32(b->qs + k / 4 * 8 + 4);
        p->sc[k / 4] = aux >> 28;
        p->index[k] = b->qs[k / 4 * 8 + k % 4];
        p->signs[k] = lb_iq_signs[aux >> 7 * (k % 4) & 127];
    }
}

static void close_2xxs(const iq_parts *p, u8 *block) {
    lb_block_iq2_xxs *b = (void *)block;
    put_half(b->d, p->d);
    for (u32 j = 0; j < 8; j++) {
        u32 aux = p->sc[j] << 28;
        for (u32 k = 0; k < 4; k++) {
            b->qs[8 * j + k] = (u8)p->index[4 * j + k];
            aux |= (p->signs[4 * j + k] & 127u) << 7 * k;
        }
        lb_store_u32(b->qs + 8 * j + 4, aux);
    }
}

static void open_2xs(const u8 *block, iq_parts *p) {
    const lb_block_iq2_xs *b = (const void *)block;
    p->d = half_at(b->d);
    for (u32 k = 0; k < 32; k++) {
        const u32 q = lb_load_u16(b->qs + 2 * k);
        p->index[k] = (u16)(q & 511);
        p->signs[k] = lb_iq_signs[q >> 9];
        p->sc[k / 2] = b->scales[k / 4] >> (k / 2 % 2 * 4) & 15;
    }
}

static void put_scales(u8 *scales, const u32 *sc, u32 n) {
    for (u32 j = 0; j < n; j++)
        scales[j] = (u8)(sc[2 * j] | sc[2 * j + 1] << 4);
}

static void close_2xs(const iq_parts *p, u8 *block) {
    lb_block_iq2_xs *b = (void *)block;
    put_half(b->d, p->d);
    for (u32 k = 0; k < 32; k++)
        lb_store_u16(b->qs + 2 * k, (u16)(p->index[k] | (p->signs[k] & 127u) << 9));
    put_scales(b->scales, p->sc, 8);
}

static void open_2s(const u8 *block, iq_parts *p) {
    const lb_block_iq2_s *b = (const void *)block;
    p->d = half_at(b->d);
    for (u32 k = 0; k < 32; k++) {
        p->index[k] = (u16)(b->qs[k] | (b->qh[k / 4] >> (k % 4 * 2) & 3u) << 8);
        p->signs[k] = b->signs[k];
        p->sc[k / 2] = b->scales[k / 4] >> (k / 2 % 2 * 4) & 15;
    }
}

static void close_2s(const iq_parts *p, u8 *block) {
    lb_block_iq2_s *b = (void *)block;
    put_half(b->d, p->d);
    memset(b->qh, 0, sizeof b->qh);
    for (u32 k = 0; k < 32; k++) {
        b->qs[k] = (u8)p->index[k];
        b->qh[k / 4] |= (u8)(p->index[k] >> 8 << k % 4 * 2);
        b->signs[k] = p->signs[k];
    }
    put_scales(b->scales, p->sc, 8);
}

static void open_3xxs(const u8 *block, iq_parts *p) {
    const lb_block_iq3_xxs *b = (const void *)block;
    p->d = half_at(b->d);
    for (u32 k = 0; k < 32; k++) {
        const u32 aux = lb_load_u32(b->aux + k / 4 * 4);
        p->sc[k / 4] = aux >> 28;
        p->index[2 * k] = b->qs[2 * k];
        p->index[2 * k + 1] = b->qs[2 * k + 1];
        p->signs[k] = lb_iq_signs[aux >> 7 * (k % 4) & 127];
    }
}

static void close_3xxs(const iq_parts *p, u8 *block) {
    lb_block_iq3_xxs *b = (void *)block;
    put_half(b->d, p->d);
    for (u32 k = 0; k < 64; k++)
        b->qs[k] = (u8)p->index[k];
    for (u32 j = 0; j < 8; j++) {
        u32 aux = p->sc[j] << 28;
        for (u32 k = 0; k < 4; k++)
            aux |= (p->signs[4 * j + k] & 127u) << 7 * k;
        lb_store_u32(b->aux + 4 * j, aux);
    }
}

static void open_3s(const u8 *block, iq_parts *p) {
    const lb_block_iq3_s *b = (const void *)block;
    p->d = half_at(b->d);
    for (u32 k = 0; k < 64; k++)
        p->index[k] = (u16)(b->qs[k] | (b->qh[k / 8] >> k % 8 & 1u) << 8);
    for (u32 k = 0; k < 32; k++)
        p->signs[k] = b->signs[k];
    for (u32 j = 0; j < 8; j++)
        p->sc[j] = b->scales[j / 2] >> (j % 2 * 4) & 15;
}

static void close_3s(const iq_parts *p, u8 *block) {
    lb_block_iq3_s *b = (void *)block;
    put_half(b->d, p->d);
    memset(b->qh, 0, sizeof b->qh);
    for (u32 k = 0; k < 64; k++) {
        b->qs[k] = (u8)p->index[k];
        b->qh[k / 8] |= (u8)(p->index[k] >> 8 << k % 8);
    }
    memcpy(b->signs, p->signs, sizeof b->signs);
    put_scales(b->scales, p->sc, 4);
}

static void open_1s(const u8 *block, iq_parts *p) {
    const lb_block_iq1_s *b = (const void *)block;
    p->d = half_at(b->d);
    for (u32 k = 0; k < 32; k++) {
        const u32 qh = lb_load_u16(b->qh + k / 4 * 2);
        p->index[k] = (u16)(b->qs[k] | (qh >> (k % 4 * 3) & 7) << 8);
        p->sc[k / 4] = qh >> 12 & 7;
        p->minus[k] = (u8)(qh >> 15);
    }
}

static void close_1s(const iq_parts *p, u8 *block) {
    lb_block_iq1_s *b = (void *)block;
    put_half(b->d, p->d);
    for (u32 j = 0; j < 8; j++) {
        u32 qh = p->sc[j] << 12 | (u32)p->minus[4 * j] << 15;
        for (u32 k = 0; k < 4; k++) {
            b->qs[4 * j + k] = (u8)p->index[4 * j + k];
            qh |= (u32)p->index[4 * j + k] >> 8 << 3 * k;
        }
        lb_store_u16(b->qh + 2 * j, (u16)qh);
    }
}

static void open_1m(const u8 *block, iq_parts *p) {
    const lb_block_iq1_m *b = (const void *)block;
    p->d = lb_f16_to_f32(lb_iq1m_d(b->scales));
    for (u32 k = 0; k < 32; k++) {
        const u32 qh = b->qh[k / 2] >> (k % 2 * 4) & 15u;
        p->index[k] = (u16)(b->qs[k] | (qh & 7) << 8);
        p->minus[k] = (u8)(qh >> 3);
        p->sc[k / 2] = lb_load_u16(b->scales + k / 8 * 2) >> (k / 2 % 4 * 3) & 7u;
    }
}

static void close_1m(const iq_parts *p, u8 *block) {
    lb_block_iq1_m *b = (void *)block;
    const u32 d = lb_quant_f16(p->d);
    memset(b->qh, 0, sizeof b->qh);
    for (u32 k = 0; k < 32; k++) {
        b->qs[k] = (u8)p->index[k];
        b->qh[k / 2] |= (u8)((p->index[k] >> 8 | p->minus[k] << 3) << k % 2 * 4);
    }
    for (u32 i = 0; i < 4; i++) {
        u32 field = (d >> 4 * i & 15) << 12;
        for (u32 j = 0; j < 4; j++)
            field |= p->sc[4 * i + j] << 3 * j;
        lb_store_u16(b->scales + 2 * i, (u16)field);
    }
}

#define EIGHTHS \
    { 8, 25, 43 }
#define TERNARY \
    { -1, 0, 1 }
static const lb_iq_form forms[] = {
    {LB_IQ2_XXS, 256, 8, 3, EIGHTHS, 32, 15, 0.125f, true, false, open_2xxs, close_2xxs},
    {LB_IQ2_XS, 512, 8, 3, EIGHTHS, 16, 15, 0.125f, true, false, open_2xs, close_2xs},
    {LB_IQ2_S, 1024, 8, 3, EIGHTHS, 16, 15, 0.125f, false, false, open_2s, close_2s},
    {LB_IQ3_XXS,
     256,
     4,
     8,
     {4, 12, 20, 28, 36, 44, 52, 62},
     32,
     15,
     0.25f,
     true,
     false,
     open_3xxs,
     close_3xxs},
    {LB_IQ3_S, 512, 4, 8, {1, 3, 5, 7, 9, 11, 13, 15}, 32, 15, 1, false, false, open_3s, close_3s},
    {LB_IQ1_S, 2048, 8, 3, TERNARY, 32, 7, 1, false, true, open_1s, close_1s},
    {LB_IQ1_M, 2048, 8, 3, TERNARY, 16, 7, 1, false, true, open_1m, close_1m},
};

static const lb_iq_form *form_of(lb_dtype t) {
    for (size_t i = 0; i < LB_LEN(forms); i++)
        if (forms[i].dtype == t)
            return &forms[i];
    return NULL;
}

bool lb_refine_iq_has(lb_dtype t) {
    return form_of(t) != NULL;
}

/* The bytes of a point: levels, or i8 of the ternary ones. */
static u64 point_of(lb_dtype t, u32 i) {
    switch (t) {
    case LB_IQ2_XXS:
        return lb_iq2xxs_grid[i];
    case LB_IQ2_XS:
        return lb_iq2xs_grid[i];
    case LB_IQ2_S:
        return lb_iq2s_grid[i];
    case LB_IQ3_XXS:
        return lb_iq3xxs_grid[i];
    case LB_IQ3_S:
        return lb_iq3s_grid[i];
    default:
        return lb_iq1s_grid[i];
    }
}

static u32 level_index(const lb_iq_form *f, u8 byte) {
    const float v = f->ternary ? (float)(i8)byte : (float)byte;
    u32 i = 0;
    while (i + 1 < f->n_levels && f->levels[i] < v)
        i++;
    return i;
}

void lb_refine_iq_init(lb_refine_iq *iq, lb_dtype t) {
    const lb_iq_form *f = form_of(t);
    iq->form = f;
    iq->n_points = f->n_points;
    for (u32 p = 0; p < f->n_points; p++) {
        const u64 bytes = point_of(t, p);
        for (u32 h = 0; h < 2; h++) {
            u32 key = 0;
            for (u32 i = f->dims / 2; i-- > 0;)
                key = key * f->n_levels + level_index(f, (u8)(bytes >> 8 * (h * f->dims / 2 + i)));
            iq->half[p][h] = (u8)key;
        }
    }
}

/* ---- points ---- */

/* The point whose values times s, shifted, are nearest to x. */
static u32 nearest_point(const lb_refine_iq *iq, const float *x, const float *w, float s,
                         float shift, float *cost) {
    const lb_iq_form *f = iq->form;
    const u32 dims = f->dims / 2, n_levels = f->n_levels;
    float table[2][81];
    u32 n = 1;
    for (u32 h = 0; h < 2; h++) {
        table[h][0] = 0;
        n = 1;
        for (u32 i = 0; i < dims; i++, n *= n_levels)
            for (u32 l = n_levels; l-- > 0;) {
                const float e = s * (f->levels[l] + shift) - x[h * dims + i];
                const float c = w[h * dims + i] * e * e;
                for (u32 k = 0; k < n; k++)
                    table[h][l * n + k] = table[h][k] + c;
            }
    }
    u32 best = 0;
    float least = INFINITY;
    for (u32 p = 0; p < iq->n_points; p++) {
        const float c = table[0][iq->half[p][0]] + table[1][iq->half[p][1]];
        if (c < least) {
            least = c;
            best = p;
        }
    }
    *cost += least;
    return best;
}

/* Magnitudes and signs of eight values; with an odd number of minuses the one that matters least
 * is taken for negative. */
static u8 split(const float *x, const float *w, bool even, float *magnitude) {
    u32 signs = 0, least = 0;
    for (u32 i = 0; i < 8; i++) {
        signs |= (u32)(x[i] < 0) << i;
        magnitude[i] = fabsf(x[i]);
        if (w[i] * x[i] * x[i] < w[least] * x[least] * x[least])
            least = i;
    }
    if (even && __builtin_popcount(signs) % 2) {
        signs ^= 1u << least;
        magnitude[least] = -magnitude[least];
    }
    return (u8)signs;
}

typedef struct group {
    u16 index[8];
    u8 signs[4], minus[4];
    float error;
} group;

static void choose_signed(const lb_refine_iq *iq, const float *x, const float *w, float s,
                          group *g) {
    const u32 dims = iq->form->dims;
    for (u32 k = 0; k < iq->form->group / 8; k++) {
        float magnitude[8];
        g->signs[k] = split(x + 8 * k, w + 8 * k, iq->form->even, magnitude);
        for (u32 i = 0; i < 8; i += dims)
            g->index[(8 * k + i) / dims] =
                (u16)nearest_point(iq, magnitude + i, w + 8 * k + i, s, 0, &g->error);
    }
}

static void choose_ternary(const lb_refine_iq *iq, const float *x, const float *w, float s,
                           group *g) {
    const u32 n = iq->form->group / 8;
    u32 index[2][4];
    float cost[2][4] = {{0}}, sum[2] = {0};
    for (u32 m = 0; m < 2; m++)
        for (u32 k = 0; k < n; k++) {
            index[m][k] =
                nearest_point(iq, x + 8 * k, w + 8 * k, s, m ? -0.125f : 0.125f, &cost[m][k]);
            sum[m] += cost[m][k];
        }
    for (u32 k = 0; k < n; k++) {
        const u32 m = n == 4 ? sum[1] < sum[0] : cost[1][k] < cost[0][k];
        g->index[k] = (u16)index[m][k];
        g->minus[k] = (u8)m;
        g->error += cost[m][k];
    }
}

static group choose(const lb_refine_iq *iq, const float *x, const float *w, float s) {
    group g = {.error = 0};
    if (iq->form->ternary)
        choose_ternary(iq, x, w, s, &g);
    else
        choose_signed(iq, x, w, s, &g);
    return g;
}

/* ---- a block ---- */

static void levels_of(const lb_iq_form *f, const iq_parts *p, float *y) {
    for (u32 i = 0; i < LB_QK; i++) {
        const u8 byte = (u8)(point_of(f->dtype, p->index[i / f->dims]) >> 8 * (i % f->dims));
        if (f->ternary)
            y[i] = (float)(i8)byte + (p->minus[i / 8] ? -0.125f : 0.125f);
        else
            y[i] = p->signs[i / 8] >> i % 8 & 1 ? -(float)byte : (float)byte;
    }
}

typedef struct state {
    const lb_refine_iq *iq;
    const float *x, *w;
    float unit;
    iq_parts p;
    float error;
} state;

static float scale_of(const lb_iq_form *f, float d, u32 sc) {
    return d * f->factor * (float)(2 * sc + 1);
}

/* Error by the sums of the groups. */
static float error_at(const lb_sums *t, float s) {
    return t->xx - 2 * s * t->xy + s * s * t->yy;
}

/* The scale of the block for its points, then of each group; *d in units of x. */
static bool fit_scales(const state *s, iq_parts *p, lb_sums *sums, float *d) {
    const lb_iq_form *f = s->iq->form;
    float y[LB_QK];
    double xy = 0, yy = 0;
    levels_of(f, p, y);
    for (u32 j = 0; j < LB_QK / f->group; j++) {
        const u32 at = j * f->group;
        const double c = (double)scale_of(f, 1, p->sc[j]);
        sums[j] = lb_fit_sums(f->group, s->x + at, s->w + at, y + at);
        xy += c * (double)sums[j].xy;
        yy += c * c * (double)sums[j].yy;
    }
    if (!(yy > 0) || !(xy > 0))
        return false;
    p->d = lb_stored_f16((float)(xy / yy) * s->unit);
    *d = p->d / s->unit;
    for (u32 j = 0; j < LB_QK / f->group; j++) {
        u32 best = 0;
        for (u32 sc = 1; sc <= f->sc_hi; sc++)
            if (error_at(&sums[j], scale_of(f, *d, sc)) < error_at(&sums[j], scale_of(f, *d, best)))
                best = sc;
        p->sc[j] = best;
    }
    return *d > 0 && *d - *d == 0;
}

/* Points of all groups, for the group's scale and those next to it. */
static float choose_points(const state *s, iq_parts *p, float d) {
    const lb_iq_form *f = s->iq->form;
    const u32 n = f->group / f->dims, reach = f->ternary ? 0 : 1;
    float error = 0;
    for (u32 j = 0; j < LB_QK / f->group; j++) {
        const u32 at = j * f->group, lo = p->sc[j] - LB_MIN(p->sc[j], reach);
        const u32 hi = LB_MIN(p->sc[j] + reach, f->sc_hi);
        group best = {.error = INFINITY};
        for (u32 sc = lo; sc <= hi; sc++) {
            const group g = choose(s->iq, s->x + at, s->w + at, scale_of(f, d, sc));
            if (g.error < best.error) {
                best = g;
                p->sc[j] = sc;
            }
        }
        memcpy(p->index + j * n, best.index, n * sizeof best.index[0]);
        memcpy(p->signs + at / 8, best.signs, f->group / 8);
        memcpy(p->minus + at / 8, best.minus, f->group / 8);
        error += best.error;
    }
    return error;
}

static float total(const state *s, const iq_parts *p) {
    const lb_iq_form *f = s->iq->form;
    float y[LB_QK], error = 0;
    levels_of(f, p, y);
    for (u32 j = 0; j < LB_QK / f->group; j++) {
        const u32 at = j * f->group;
        const lb_sums t = lb_fit_sums(f->group, s->x + at, s->w + at, y + at);
        error += error_at(&t, scale_of(f, p->d / s->unit, p->sc[j]));
    }
    return error;
}

void lb_refine_iq_block(const lb_refine_iq *iq, const float *x, const float *w, float unit,
                        u8 *block) {
    state s = {.iq = iq, .x = x, .w = w, .unit = unit};
    lb_sums sums[16];
    float d;
    iq->form->open(block, &s.p);
    s.error = total(&s, &s.p);
    iq_parts p = s.p;
    for (u32 i = 0; i < ROUNDS && fit_scales(&s, &p, sums, &d); i++) {
        (void)choose_points(&s, &p, d);
        iq_parts fitted = p;
        (void)fit_scales(&s, &fitted, sums, &d);
        const float before = total(&s, &p), after = total(&s, &fitted);
        if (after < before)
            p = fitted;
        if (!(LB_MIN(before, after) < s.error))
            break;
        s.error = LB_MIN(before, after);
        s.p = p;
    }
    iq->form->close(&s.p, block);
}

void lb_refine_iq3s_places(const float *x, void *block) {
    lb_block_iq3_s *y = block;
    bool zero[8];
    size_t from = 0;
    for (size_t j = 0; j < 8; j++) {
        zero[j] = true;
        for (size_t i = 0; i < 32; i++)
            zero[j] = zero[j] && x[32 * j + i] == 0;
        from += !zero[j];
    }
    for (size_t j = 8; from < 8 && j-- > 0;) { /* backwards: none is overwritten before it moves */
        if (zero[j]) {
            memset(y->qs + 8 * j, 0, 8);
            memset(y->signs + 4 * j, 0, 4);
            continue;
        }
        from--;
        memmove(y->qs + 8 * j, y->qs + 8 * from, 8);
        memmove(y->signs + 4 * j, y->signs + 4 * from, 4);
    }
}
