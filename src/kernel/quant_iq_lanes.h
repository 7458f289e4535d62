/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq_lanes.h: the searches of quant_iq_ref.c in lanes, for quant_iq_<isa>.c: a group's trial
 * scales side by side where its values are rounded to keys and where sums are made, the points of a
 * list side by side where a key is no point. */
#ifndef LB_KERNEL_QUANT_IQ_LANES_H
#define LB_KERNEL_QUANT_IQ_LANES_H
#ifdef LANES_INLINE

#include "kernel/kernel.h"
#include "kernel/quant_grid_lanes.h"
#include "kernel/quant_iq.h"
#include "kernel/quant_lanes.h"

enum { MAX_TRIALS = 32 };

/* Of all trials of a group. */
typedef struct trial_points {
    u32 n; /* trials; the arrays are filled to a multiple of HALF */
    float inverse[MAX_TRIALS];
    i32 key[LB_IQ_POINTS][MAX_TRIALS];
    u32 entry[LB_IQ_POINTS][MAX_TRIALS]; /* packed levels | index << 16 */
} trial_points;

LANES_INLINE vt iq_values(u32 base) {
    static const float values[2][8] = {{1, 3, 5, 0, 1, 3, 5, 0}, {1, 3, 5, 7, 9, 11, 13, 15}};
    return vt_load(values[base == 8]);
}

LANES_INLINE u32 iq_entry(const lb_iq_group *s, u32 dims, u32 k, u32 key, float scale) {
    const lb_grid *g = s->g;
    const i32 at = g->at[key];
    if (at >= 0)
        return g->point[at] | (u32)at << 16;
    return dims == 8 ? grid_nearest_lanes(g, 8, 2, key, s->x + 8 * k, s->root + 8 * k, scale,
                                          iq_values(3))
                     : grid_nearest_lanes(g, 4, 3, key, s->x + 4 * k, s->root + 4 * k, scale,
                                          iq_values(8));
}

static void iq_point(const lb_iq_group *s, u32 k, float inverse, float scale, lb_iq_choice *c) {
    const lb_grid *g = s->g;
    const float *x = s->x + g->dims * k;
    u32 key = 0, power = 1;
    for (u32 i = 0; i < g->dims; i++, power *= g->base)
        key += power * (u32)lb_clamp(lb_nearest(0.5f * (inverse * x[i] - 1)), 0, (i32)g->base - 1);
    const u32 entry = iq_entry(s, g->dims, k, key, scale);
    c->moved[k] = g->at[key] < 0;
    c->packed[k] = (u16)entry;
    c->index[k] = (u16)(entry >> 16);
}

LANES_INLINE void iq_keys(const lb_iq_group *s, u32 dims, u32 base, trial_points *t) {
    for (u32 from = 0; from < t->n; from += HALF) {
        const vh inverse = vh_load(t->inverse + from);
        for (u32 k = 0; k < LB_IQ_GROUP / dims && k < s->n_points; k++) {
            vh key = vh_all(0);
            float power = 1;
            for (u32 i = 0; i < dims; i++, power *= (float)base) {
                const vh at = vh_all(0.5f) * (inverse * vh_all(s->x[dims * k + i]) - vh_all(1));
                key = key + vh_all(power) * vh_code(at, 0, (float)(base - 1));
            }
            vhi_store(t->key[k] + from, vhi_nearest(key));
        }
    }
}

/* Sums of w x q and w q q of all trials. */
LANES_INLINE void iq_sums(const lb_iq_group *s, u32 dims, u32 bits, const trial_points *t,
                          float *xqs, float *qqs) {
    for (u32 from = 0; from < t->n; from += HALF) {
        vh xq = vh_all(0), qq = vh_all(0);
        for (u32 k = 0; k < s->n_points; k++) {
            const vhi point = vhi_load(t->entry[k] + from);
            for (u32 i = 0; i < dims; i++) {
                const float w = s->w[dims * k + i];
                const vh level = vhi_floats(vhi_and(vhi_right(point, bits * i), (1 << bits) - 1));
                const vh q = level + level + vh_all(1);
                xq = xq + vh_all(w * s->x[dims * k + i]) * q;
                qq = qq + vh_all(w) * q * q;
            }
        }
        vh_store(xqs + from, xq);
        vh_store(qqs + from, qq);
    }
}

LANES_INLINE float iq_best_trial(const lb_iq_group *s, u32 dims, u32 base, u32 bits,
                                 trial_points *t, float scale, lb_iq_choice *c) {
    float xq[MAX_TRIALS], qq[MAX_TRIALS], best = 0;
    u32 chosen = MAX_TRIALS;
    iq_keys(s, dims, base, t);
    for (u32 k = 0; k < s->n_points; k++)
        for (u32 j = 0; j < (t->n + HALF - 1) / HALF * HALF; j++)
            t->entry[k][j] =
                j < t->n ? iq_entry(s, dims, k, (u32)t->key[k][j], 1 / t->inverse[j]) : 0;
    iq_sums(s, dims, bits, t, xq, qq);
    for (u32 j = 0; j < t->n; j++)
        if (qq[j] > 0 && xq[j] * xq[j] > best * qq[j]) {
            scale = xq[j] / qq[j];
            best = scale * xq[j];
            chosen = j;
        }
    for (u32 k = 0; chosen < MAX_TRIALS && k < s->n_points; k++) {
        c->packed[k] = (u16)t->entry[k][chosen];
        c->index[k] = (u16)(t->entry[k][chosen] >> 16);
        c->moved[k] = s->g->at[t->key[k][chosen]] < 0;
    }
    return scale;
}

static float iq_trials(const lb_iq_group *s, float max, float scale, lb_iq_choice *c) {
    const lb_iq_method *m = s->m;
    const float top = (float)(2 * s->g->base - 1);
    trial_points t = {.n = 0};
    float largest = 0;
    bool is_nan = false;
    for (i32 k = -m->n_trials; k <= m->n_trials; k++)
        t.inverse[t.n++] = (top + (float)k * m->step) / max;
    for (u32 i = 0; i < s->n; i++) {
        largest = fabsf(s->x[i]) > largest ? fabsf(s->x[i]) : largest;
        is_nan = is_nan || s->x[i] != s->x[i];
    }
    if (is_nan || !(largest * t.inverse[t.n - 1] < 0x1p20f)) /* keys are rounded as floats */
        return lb_iq_search_ref.trials(s, max, scale, c);
    return s->g->dims == 8 ? iq_best_trial(s, 8, 3, 2, &t, scale, c)
                           : iq_best_trial(s, 4, 8, 3, &t, scale, c);
}

static const lb_iq_search iq_search = {iq_point, iq_trials, lb_fit_positive};

static void quant_iq2_xxs(size_t n_elems, void *out, const float *in, const float *importance,
                          const void *tables) {
    lb_iq_quant_iq2_xxs(n_elems, out, in, importance, tables, &iq_search);
}

static void quant_iq2_xs(size_t n_elems, void *out, const float *in, const float *importance,
                         const void *tables) {
    lb_iq_quant_iq2_xs(n_elems, out, in, importance, tables, &iq_search);
}

static void quant_iq2_s(size_t n_elems, void *out, const float *in, const float *importance,
                        const void *tables) {
    lb_iq_quant_iq2_s(n_elems, out, in, importance, tables, &iq_search);
}

static void quant_iq3_xxs(size_t n_elems, void *out, const float *in, const float *importance,
                          const void *tables) {
    lb_iq_quant_iq3_xxs(n_elems, out, in, importance, tables, &iq_search);
}

static void quant_iq3_s(size_t n_elems, void *out, const float *in, const float *importance,
                        const void *tables) {
    lb_iq_quant_iq3_s(n_elems, out, in, importance, tables, &iq_search);
}

#endif
#endif
