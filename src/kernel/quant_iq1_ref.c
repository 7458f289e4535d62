/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq1_ref.c: f32 to iq1_s and iq1_m, the scalar definition (quant.h).
 *
 * A value is scale * (-1, 0 or 1, plus or minus 1/8), the shift being one for 32 (iq1_s) or 8
 * (iq1_m) values. With three levels the best rounding of a group is a pair of cuts through its
 * sorted values: all pairs and shifts are tried, by prefix sums. Then each 8 values move to the
 * codebook. */
#include "kernel/blocks_k.h"
#include "kernel/kernel.h"
#include "kernel/quant.h"
#include "kernel/quant_grid.h"

enum { MAX_GROUP = 32 };

/* The three levels with the shift upwards and downwards. */
static const float levels[2][3] = {{-0.875f, 0.125f, 1.125f}, {-1.125f, -0.125f, 0.875f}};
enum { UP, DOWN };

/* Sorts the indices of x by value, equal ones (and NaN, which no comparison moves) in their order:
 * by halves, as the C library's qsort of ggml's Linux builds does. */
static void sort_by_value(const float *x, u8 *order, u32 n) {
    u8 merged[MAX_GROUP];
    if (n < 2)
        return;
    const u32 half = n / 2;
    sort_by_value(x, order, half);
    sort_by_value(x, order + half, n - half);
    u32 a = 0, b = half, k = 0;
    while (a < half && b < n)
        merged[k++] = x[order[a]] > x[order[b]] ? order[b++] : order[a++];
    while (a < half)
        merged[k++] = order[a++];
    memcpy(order, merged, k);
}

typedef struct group {
    const float *x;
    u32 n;
    float w[MAX_GROUP];
    u8 order[MAX_GROUP];
    u8 code[MAX_GROUP]; /* levels */
    u16 index[4];       /* points */
} group;

/* The best cuts so far: below `low` in sorted order is level 0, from `high` on level 2. */
typedef struct cuts {
    i32 low, high, shift;
    float scale, score;
} cuts;

static void try_cuts(cuts *best, float xq, float qq, u32 low, u32 high, i32 shift) {
    if (qq > 0 && xq * xq > best->score * qq) {
        best->scale = xq / qq;
        best->score = best->scale * xq;
        best->low = (i32)low;
        best->high = (i32)high;
        best->shift = shift;
    }
}

/* Weights and sorted order; false: all magnitudes are below tiny. */
static bool start_group(group *s, const float *x, u32 n, const float *importance, float sigma2,
                        float tiny, float *max) {
    s->x = x;
    s->n = n;
    if (importance)
        lb_quant_weights(s->w, importance, x, n, sigma2);
    *max = fabsf(x[0]);
    for (u32 i = 0; i < n; i++) {
        if (!importance)
            s->w[i] = x[i] * x[i];
        *max = *max > fabsf(x[i]) ? *max : fabsf(x[i]);
        s->order[i] = (u8)i;
    }
    if (*max < tiny)
        return false;
    sort_by_value(x, s->order, n);
    return true;
}

/* Codes of the cuts; a negative scale turns them over. Returns whether it did. */
static bool set_codes(group *s, cuts *c) {
    for (i32 j = 0; j < (i32)s->n; j++)
        s->code[s->order[j]] = j < c->low ? 0 : j < c->high ? 1 : 2;
    if (!(c->scale < 0))
        return false;
    for (u32 j = 0; j < s->n; j++)
        s->code[j] = (u8)(2 - s->code[j]);
    c->scale = -c->scale;
    return true;
}

/* The point of 8 values from element `at` on; true if they had to move. */
static bool choose_point(const lb_grid *g, group *s, u32 at, float scale, const float *value) {
    u32 key = 0, power = 1;
    for (u32 i = 0; i < 8; i++, power *= 3)
        key += power * s->code[at + i];
    if (g->at[key] >= 0) {
        s->index[at / 8] = (u16)g->at[key];
        return false;
    }
    s->index[at / 8] = (u16)(lb_grid_nearest(g, key, s->x + at, s->w + at, scale, value) >> 16);
    return true;
}

typedef struct sums {
    float xq, qq;
} sums;

/* Adds the sums of 8 values at their point, whose levels count `times`. */
static void add_sums(sums *t, const lb_grid *g, const group *s, u32 at, const float *value,
                     float times) {
    const u32 packed = g->point[s->index[at / 8]];
    for (u32 i = 0; i < 8; i++) {
        const float q = value[packed >> 2 * i & 3] * times;
        t->xq += s->w[at + i] * q * s->x[at + i];
        t->qq += s->w[at + i] * q * q;
    }
}

/* ---- iq1_s ---- */

static void search_s(const group *s, cuts *best) {
    float sum_x[33], sum_w[33];
    sum_x[0] = sum_w[0] = 0;
    for (u32 j = 0; j < 32; j++) {
        const u32 i = s->order[j];
        sum_x[j + 1] = sum_x[j] + s->w[i] * s->x[i];
        sum_w[j + 1] = sum_w[j] + s->w[i];
    }
    for (u32 low = 0; low <= 32; low++)
        for (u32 high = low; high <= 32; high++) {
            const float x0 = sum_x[low], x1 = sum_x[high] - sum_x[low],
                        x2 = sum_x[32] - sum_x[high];
            const float w0 = sum_w[low], w1 = sum_w[high] - sum_w[low],
                        w2 = sum_w[32] - sum_w[high];
            for (i32 shift = UP; shift <= DOWN; shift++) {
                const float *v = levels[shift];
                try_cuts(best, x0 * v[0] + x1 * v[1] + x2 * v[2],
                         w0 * v[0] * v[0] + w1 * v[1] * v[1] + w2 * v[2] * v[2], low, high, shift);
            }
        }
}

/* False: nothing to store. */
static bool fit_s(const lb_grid *g, group *s, float max, float *scale, i32 *shift) {
    cuts best = {-1, -1, UP, max, -0x1.fffffep127f};
    search_s(s, &best);
    if (best.low < 0)
        return false;
    if (set_codes(s, &best))
        best.shift = best.shift == UP ? DOWN : UP;
    const float *value = levels[best.shift];
    bool moved = false;
    for (u32 at = 0; at < 32; at += 8)
        moved |= choose_point(g, s, at, best.scale, value);
    if (moved) {
        sums t = {0, 0};
        for (u32 at = 0; at < 32; at += 8)
            add_sums(&t, g, s, at, value, 1);
        if (t.xq > 0 && t.qq > 0)
            best.scale = t.xq / t.qq;
    }
    *scale = best.scale;
    *shift = best.shift;
    return true;
}

void lb_k_quant_iq1_s_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    LB_ASSERT(importance);
    lb_block_iq1_s *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const float *x = in + at;
        const float sigma2 = 2 * lb_sum_squares(x, LB_QK) / LB_QK;
        float scale[8], max_scale = 0, max;
        i32 shift[8];
        memset(y, 0, sizeof *y);
        for (u32 j = 0; j < 8; j++) {
            group s;
            scale[j] = 0;
            shift[j] = UP;
            if (!start_group(&s, x + 32 * j, 32, importance + at + 32 * j, sigma2, 1e-12f, &max) ||
                !fit_s(tables, &s, max, scale + j, shift + j))
                continue;
            u32 high = 0;
            for (u32 k = 0; k < 4; k++) {
                y->qs[4 * j + k] = (u8)s.index[k];
                high |= (u32)s.index[k] >> 8 << 3 * k;
            }
            lb_store_u16(y->qh + 2 * j, (u16)high);
            max_scale = max_scale > scale[j] ? max_scale : scale[j];
        }
        if (max_scale == 0)
            continue;
        const float d = max_scale / 15, inverse = 1 / d;
        lb_store_u16(y->d, lb_quant_f16(d * 1.125f));
        for (u32 j = 0; j < 8; j++) {
            u32 sc = (u32)lb_clamp(lb_nearest(0.5f * (inverse * scale[j] - 1)), 0, 7);
            sc |= shift[j] == DOWN ? 8 : 0;
            lb_store_u16(y->qh + 2 * j, (u16)(lb_load_u16(y->qh + 2 * j) | sc << 12));
        }
    }
}

/* ---- iq1_m: two halves of 8, each with its own shift: bit 1 of `shift` that of the first, bit 0
 * that of the second ---- */

static const float *half_levels(i32 shift, u32 half) {
    return levels[half ? shift & 1 : shift >> 1];
}

/* Prefix sums of one half, over the sorted order of both. */
typedef struct half_sums {
    float x[17], w[17];
} half_sums;

static void search_m(const group *s, cuts *best) {
    half_sums p[2];
    memset(p, 0, sizeof p);
    for (u32 j = 0; j < 16; j++) {
        const u32 i = s->order[j], h = i / 8;
        p[h].x[j + 1] = p[h].x[j] + s->w[i] * s->x[i];
        p[1 - h].x[j + 1] = p[1 - h].x[j];
        p[h].w[j + 1] = p[h].w[j] + s->w[i];
        p[1 - h].w[j + 1] = p[1 - h].w[j];
    }
    /* levels differ by 1, so their sum is that of level 2 for all less the two prefixes */
    float first[2], second[2]; /* differences of the squares */
    for (i32 k = UP; k <= DOWN; k++) {
        const float *v = levels[k];
        first[k] = v[0] * v[0] - v[1] * v[1];
        second[k] = v[1] * v[1] - v[2] * v[2];
    }
    for (u32 low = 0; low <= 16; low++)
        for (u32 high = low; high <= 16; high++) {
            float xq[2][2], qq[2][2]; /* half, shift */
            for (u32 h = 0; h < 2; h++) {
                const float prefixes = p[h].x[low] + p[h].x[high];
                for (i32 k = UP; k <= DOWN; k++) {
                    const float top = levels[k][2];
                    xq[h][k] = p[h].x[16] * top - prefixes;
                    qq[h][k] =
                        p[h].w[16] * top * top + p[h].w[low] * first[k] + p[h].w[high] * second[k];
                }
            }
            for (i32 shift = 0; shift < 4; shift++)
                try_cuts(best, xq[0][shift >> 1] + xq[1][shift & 1],
                         qq[0][shift >> 1] + qq[1][shift & 1], low, high, shift);
        }
}

static bool fit_m(const lb_grid *g, group *s, float max, float *scale, i32 *shift) {
    cuts best = {-1, -1, 0, max, -0x1.fffffep127f};
    search_m(s, &best);
    if (best.low < 0)
        return false;
    if (set_codes(s, &best))
        best.shift = 3 - best.shift;
    bool moved = false;
    for (u32 h = 0; h < 2; h++)
        moved |= choose_point(g, s, 8 * h, best.scale, half_levels(best.shift, h));
    if (moved) {
        sums t = {0, 0};
        for (u32 h = 0; h < 2; h++)
            add_sums(&t, g, s, 8 * h, half_levels(best.shift, h), 1);
        if (t.xq > 0 && t.qq > 0)
            best.scale = t.xq / t.qq;
    }
    *scale = best.scale;
    *shift = best.shift;
    return true;
}

/* The block's scale by least squares over all groups, and the fields of a group. */
static float finish_m(lb_block_iq1_m *y, const lb_grid *g, group *groups, const float *scale,
                      const i32 *shift, float max_scale) {
    static const u8 minus[4] = {0x00, 0x80, 0x08, 0x88};
    const float d = max_scale / 15, inverse = 1 / d;
    sums t = {0, 0};
    for (u32 j = 0; j < 16; j++) {
        const u32 sc = (u32)lb_clamp(lb_nearest(0.5f * (inverse * scale[j] - 1)), 0, 7);
        u8 *field = y->scales + j / 4 * 2;
        lb_store_u16(field, (u16)(lb_load_u16(field) | sc << 3 * (j % 4)));
        y->qh[j] |= minus[shift[j]];
        for (u32 h = 0; h < 2; h++)
            add_sums(&t, g, groups + j, 8 * h, half_levels(shift[j], h), (float)(2 * sc + 1));
    }
    return t.qq > 0 ? t.xq / t.qq : d;
}

void lb_k_quant_iq1_m_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    lb_block_iq1_m *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const float *x = in + at;
        const float sigma2 = 2 * lb_sum_squares(x, LB_QK) / LB_QK;
        group s[16];
        float scale[16], max_scale = 0, max;
        i32 shift[16];
        memset(y, 0, sizeof *y);
        memset(s, 0, sizeof s);
        for (u32 j = 0; j < 16; j++) {
            scale[j] = 0;
            shift[j] = 0;
            if (!start_group(s + j, x + 16 * j, 16, importance ? importance + at + 16 * j : NULL,
                             sigma2, 1e-7f, &max) ||
                !fit_m(tables, s + j, max, scale + j, shift + j))
                continue;
            y->qs[2 * j] = (u8)s[j].index[0];
            y->qs[2 * j + 1] = (u8)s[j].index[1];
            y->qh[j] = (u8)(s[j].index[0] >> 8 | s[j].index[1] >> 8 << 4);
            max_scale = max_scale > scale[j] ? max_scale : scale[j];
        }
        if (max_scale == 0)
            continue;
        const u16 d = lb_quant_f16(finish_m(y, tables, s, scale, shift, max_scale) * 1.1125f);
        for (u32 i = 0; i < 4; i++) {
            u8 *field = y->scales + 2 * i;
            lb_store_u16(field, (u16)(lb_load_u16(field) | (d >> 4 * i & 15) << 12));
        }
    }
}
