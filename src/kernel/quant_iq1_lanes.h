/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq1_lanes.h: the searches of quant_iq1_ref.c, one group a lane: the reference's operations
 * in its order, with products that do not depend on both cuts made before. */
#ifndef LB_KERNEL_QUANT_IQ1_LANES_H
#define LB_KERNEL_QUANT_IQ1_LANES_H
#ifdef LANES_INLINE

#include "kernel/kernel.h"
#include "kernel/quant_grid_lanes.h"
#include "kernel/quant_iq1.h"

/* Prefix sums in sorted order, of one half or of all: of values that are not in it, the sums stay.
 */
typedef struct iq1_sums {
    float x[33][HALF], w[33][HALF];
} iq1_sums;

LANES_INLINE void iq1_prefixes(const lb_iq1_group *s, u32 lane, bool halves, iq1_sums *p) {
    float x[2] = {0, 0}, w[2] = {0, 0};
    for (u32 j = 0; j <= s->n; j++) {
        for (u32 h = 0; h <= halves; h++) {
            p[h].x[j][lane] = x[h];
            p[h].w[j][lane] = w[h];
        }
        const u32 i = s->zero || j == s->n ? 0 : s->order[j], h = halves ? i / 8 : 0;
        x[h] += s->w[i] * s->x[i];
        w[h] += s->w[i];
    }
}

typedef struct iq1_best {
    vh scale, score;
    vhi at; /* shift | high << 2 | low << 8, -1: none */
} iq1_best;

LANES_INLINE void iq1_try(iq1_best *b, vh xq, vh qq, u32 low, u32 high, u32 shift) {
    const vh squared = xq * xq;
    const vhm better = vhm_and(vh_less(vh_all(0), qq), vh_less(b->score * qq, squared));
    if (!vhm_bits(better))
        return;
    const vh scale = xq / qq;
    b->scale = vh_pick(better, scale, b->scale);
    b->score = vh_pick(better, scale * xq, b->score);
    b->at = vhi_pick(better, vhi_all((i32)(shift | high << 2 | low << 8)), b->at);
}

LANES_INLINE void iq1_search_s(const iq1_sums *p, iq1_best *b) {
    alignas(64) float x2[2][33][HALF], w2[2][33][HALF];
    for (u32 high = 0; high <= 32; high++)
        for (u32 k = LB_IQ1_UP; k <= LB_IQ1_DOWN; k++) {
            const vh top = vh_all(lb_iq1_levels[k][2]);
            vh_store(x2[k][high], (vh_load(p->x[32]) - vh_load(p->x[high])) * top);
            vh_store(w2[k][high], (vh_load(p->w[32]) - vh_load(p->w[high])) * top * top);
        }
    for (u32 low = 0; low <= 32; low++) {
        const vh x0 = vh_load(p->x[low]), w0 = vh_load(p->w[low]);
        vh first_x[2], first_w[2];
        for (u32 k = LB_IQ1_UP; k <= LB_IQ1_DOWN; k++) {
            const vh bottom = vh_all(lb_iq1_levels[k][0]);
            first_x[k] = x0 * bottom;
            first_w[k] = w0 * bottom * bottom;
        }
        for (u32 high = low; high <= 32; high++) {
            const vh x1 = (vh_load(p->x[high]) - x0) * vh_all(0.125f);
            const vh w1 = (vh_load(p->w[high]) - w0) * vh_all(0.125f) * vh_all(0.125f);
            iq1_try(b, first_x[0] + x1 + vh_load(x2[0][high]),
                    first_w[0] + w1 + vh_load(w2[0][high]), low, high, LB_IQ1_UP);
            iq1_try(b, first_x[1] - x1 + vh_load(x2[1][high]),
                    first_w[1] + w1 + vh_load(w2[1][high]), low, high, LB_IQ1_DOWN);
        }
    }
}

/* What the cuts above do not change, for one half and one shift. */
typedef struct iq1_part {
    vh all_x, low_w, first, second, top_w;
} iq1_part;

LANES_INLINE void iq1_search_m(const iq1_sums *p, iq1_best *b) {
    iq1_part part[2][2];
    for (u32 h = 0; h < 2; h++)
        for (u32 k = LB_IQ1_UP; k <= LB_IQ1_DOWN; k++) {
            const float *v = lb_iq1_levels[k];
            const vh top = vh_all(v[2]);
            part[h][k].all_x = vh_load(p[h].x[16]) * top;
            part[h][k].top_w = vh_load(p[h].w[16]) * top * top;
            part[h][k].first = vh_all(v[0] * v[0] - v[1] * v[1]);
            part[h][k].second = vh_all(v[1] * v[1] - v[2] * v[2]);
        }
    for (u32 low = 0; low <= 16; low++) {
        for (u32 h = 0; h < 2; h++)
            for (u32 k = LB_IQ1_UP; k <= LB_IQ1_DOWN; k++)
                part[h][k].low_w = part[h][k].top_w + vh_load(p[h].w[low]) * part[h][k].first;
        for (u32 high = low; high <= 16; high++) {
            vh xq[2][2], qq[2][2]; /* half, shift */
            for (u32 h = 0; h < 2; h++) {
                const vh prefixes = vh_load(p[h].x[low]) + vh_load(p[h].x[high]);
                for (u32 k = LB_IQ1_UP; k <= LB_IQ1_DOWN; k++) {
                    xq[h][k] = part[h][k].all_x - prefixes;
                    qq[h][k] = part[h][k].low_w + vh_load(p[h].w[high]) * part[h][k].second;
                }
            }
            for (u32 shift = 0; shift < 4; shift++)
                iq1_try(b, xq[0][shift >> 1] + xq[1][shift & 1],
                        qq[0][shift >> 1] + qq[1][shift & 1], low, high, shift);
        }
    }
}

LANES_INLINE void iq1_cuts(lb_iq1_group *s, u32 n, bool halves) {
    alignas(64) iq1_sums p[2];
    for (u32 from = 0; from < n; from += HALF) {
        alignas(64) float scale[HALF], score[HALF];
        i32 at[HALF];
        for (u32 k = 0; k < HALF; k++) {
            const lb_iq1_group *one = s + LB_MIN(from + k, n - 1);
            iq1_prefixes(one, k, halves, p);
            scale[k] = one->best.scale;
            score[k] = one->best.score;
        }
        iq1_best b = {vh_load(scale), vh_load(score), vhi_all(-1)};
        if (halves)
            iq1_search_m(p, &b);
        else
            iq1_search_s(p, &b);
        vh_store(scale, b.scale);
        vhi_store(at, b.at);
        for (u32 k = 0; k < HALF && from + k < n; k++)
            if (at[k] >= 0)
                s[from + k].best =
                    (lb_iq1_cuts){at[k] >> 8, at[k] >> 2 & 63, at[k] & 3, scale[k], 0};
    }
}

/* Each value goes to the place that the number of smaller ones says, and equal ones before it. */
static void iq1_sort(const float *x, u8 *order, u32 n) {
    u64 places = 0;
    for (u32 i = 0; i < n; i++) {
        u32 less = 0, equal = 0;
        for (u32 from = 0; from < n; from += HALF) {
            const vh v = vh_load(x + from);
            less |= vhm_bits(vh_less(v, vh_all(x[i]))) << from;
            equal |= vhm_bits(vh_equal(v, vh_all(x[i]))) << from;
        }
        const u32 place = (u32)__builtin_popcount(less | (equal & ((1u << i) - 1)));
        order[place] = (u8)i;
        places |= 1ull << place;
    }
    if (places != (1ull << n) - 1) /* a NaN has the place of another */
        lb_iq1_sort(x, order, n);
}

static void iq1_cuts_s(lb_iq1_group *s, u32 n) {
    iq1_cuts(s, n, false);
}

static void iq1_cuts_m(lb_iq1_group *s, u32 n) {
    iq1_cuts(s, n, true);
}

static u32 iq1_nearest(const lb_grid *g, u32 key, const float *x, const float *w, float scale,
                       const float *value) {
    const float v[8] = {value[0], value[1], value[2], 0, value[0], value[1], value[2], 0};
    return grid_nearest_lanes(g, 8, 2, key, x, w, scale, vt_load(v));
}

static const lb_iq1_search iq1_search = {iq1_sort, iq1_cuts_s, iq1_cuts_m, iq1_nearest};

static void quant_iq1_s(size_t n_elems, void *out, const float *in, const float *importance,
                        const void *tables) {
    lb_iq1_quant_s(n_elems, out, in, importance, tables, &iq1_search);
}

static void quant_iq1_m(size_t n_elems, void *out, const float *in, const float *importance,
                        const void *tables) {
    lb_iq1_quant_m(n_elems, out, in, importance, tables, &iq1_search);
}

#endif
#endif
