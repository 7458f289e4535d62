/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq_ref.c: the searches of the iq2 and iq3 types, the scalar definition; quant_iq.c has the
 * rest. */
#include "kernel/kernel.h"
#include "kernel/quant_iq.h"

/* Point k of the group for a scale. */
static void choose_point(const lb_iq_group *s, u32 k, float inverse, float scale, lb_iq_choice *c) {
    const lb_grid *g = s->g;
    const float *x = s->x + g->dims * k;
    u32 key = 0, power = 1;
    for (u32 i = 0; i < g->dims; i++, power *= g->base)
        key += power * (u32)lb_clamp(lb_nearest(0.5f * (inverse * x[i] - 1)), 0, (i32)g->base - 1);
    c->moved[k] = g->at[key] < 0;
    if (c->moved[k]) {
        const u32 entry = lb_grid_nearest(g, key, x, s->root + g->dims * k, scale, lb_iq_values);
        c->packed[k] = (u16)entry;
        c->index[k] = (u16)(entry >> 16);
    } else {
        c->index[k] = (u16)g->at[key];
        c->packed[k] = g->point[c->index[k]];
    }
}

static float try_scales(const lb_iq_group *s, float max, float scale, lb_iq_choice *c) {
    const lb_iq_method *m = s->m;
    const float top = (float)(2 * s->g->base - 1);
    float best = 0;
    for (i32 k = -m->n_trials; k <= m->n_trials; k++) {
        const float inverse = (top + (float)k * m->step) / max;
        lb_iq_choice trial;
        for (u32 p = 0; p < s->n_points; p++)
            choose_point(s, p, inverse, 1 / inverse, &trial);
        const lb_iq_sums t = lb_iq_sums_of(s, &trial);
        if (t.qq > 0 && t.xq * t.xq > best * t.qq) {
            scale = t.xq / t.qq;
            best = scale * t.xq;
            *c = trial;
        }
    }
    return scale;
}

const lb_iq_search lb_iq_search_ref = {choose_point, try_scales, lb_fit_positive};

void lb_k_quant_iq2_xxs_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                                const void *tables) {
    lb_iq_quant_iq2_xxs(n_elems, out, in, importance, tables, &lb_iq_search_ref);
}

void lb_k_quant_iq2_xs_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                               const void *tables) {
    lb_iq_quant_iq2_xs(n_elems, out, in, importance, tables, &lb_iq_search_ref);
}

void lb_k_quant_iq2_s_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    lb_iq_quant_iq2_s(n_elems, out, in, importance, tables, &lb_iq_search_ref);
}

void lb_k_quant_iq3_xxs_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                                const void *tables) {
    lb_iq_quant_iq3_xxs(n_elems, out, in, importance, tables, &lb_iq_search_ref);
}

void lb_k_quant_iq3_s_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    lb_iq_quant_iq3_s(n_elems, out, in, importance, tables, &lb_iq_search_ref);
}
