/* SPDX-License-Identifier: Apache-2.0 */
/* refine_fit.c: one scale (and offset) for a group: cuts of its range, each followed by least
 * squares and new codes while that helps. */
#include "kernel/refine_fit.h"

float lb_refine_unit(size_t n, const float *x) {
    u32 most = 0;
    for (size_t i = 0; i < n; i++) {
        const u32 bits = lb_f32_bits(x[i]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    const u32 e = most >> 23;
    if (most == 0)
        return 1;
    /* 2^(127 - e): beyond 2^126 for subnormals, which keep what they can */
    return lb_f32_from_bits((254 - LB_MIN(LB_MAX(e, 1u), 253u)) << 23);
}

float lb_stored_f16(float x) {
    return lb_f16_to_f32(lb_quant_f16(x));
}

float lb_stored_bf16(float x) {
    return lb_bf16_to_f32(lb_bf16_from_f32(x));
}

float lb_stored_f32(float x) {
    return x;
}

static float as_stored(const lb_group_fit *g, float x) {
    const float y = g->stored(x * g->unit) / g->unit;
    return y - y == 0 ? y : 0; /* beyond the type: no scale */
}

/* Tries a scale and an offset; keeps them if they are better. */
static bool try(lb_group_fit *g, float s, float off) {
    float y[LB_REFINE_MAX];
    const float ss = as_stored(g, s), so = g->affine ? as_stored(g, off) : 0;
    const float error = lb_fit_levels(g->levels, g->n, g->x, g->w, ss, so, y);
    if (!(error < g->error))
        return false;
    g->s = ss;
    g->off = so;
    g->error = error;
    memcpy(g->y, y, g->n * sizeof *y);
    return true;
}

/* A cut, then the line through what it gives. */
static void try_cut(lb_group_fit *g, float s, float off) {
    float y[LB_REFINE_MAX];
    (void)lb_fit_levels(g->levels, g->n, g->x, g->w, s, off, y);
    const lb_sums t = lb_fit_sums(g->n, g->x, g->w, y);
    if (g->affine ? lb_fit_line(&t, &s, &off) : t.yy > 0) {
        if (!g->affine)
            s = t.xy / t.yy;
        (void)try(g, s, off);
    }
}

/* The best line for the codes, and new codes for it, while that helps. */
static void descend(lb_group_fit *g) {
    for (u32 i = 0; i < 8; i++) {
        const lb_sums t = lb_fit_sums(g->n, g->x, g->w, g->y);
        float s = g->s, off = g->off;
        if (g->affine ? !lb_fit_line(&t, &s, &off) : !(t.yy > 0))
            return;
        if (!g->affine)
            s = t.xy / t.yy;
        if (!try(g, s, off))
            return;
    }
}

/* The largest magnitude at up to two steps beyond or within the last level, on either side. */
static void cut_symmetric(lb_group_fit *g) {
    const lb_levels *l = g->levels;
    float most = 0;
    for (size_t i = 0; i < g->n; i++)
        most = fabsf(g->x[i]) > most ? fabsf(g->x[i]) : most;
    const float step = l->table || l->e4m3 ? l->hi / 64 : 0.125f;
    for (i32 k = -16; k <= 16; k++) {
        const float a = l->hi + step * (float)k, b = l->lo + step * (float)k;
        if (a > 0)
            try_cut(g, most / a, 0);
        if (a > 0 && l->lo != -l->hi)
            try_cut(g, -most / a, 0);
        if (b < 0 && l->lo != -l->hi) {
            try_cut(g, most / b, 0);
            try_cut(g, -most / b, 0);
        }
    }
}

/* Both ends of the range moved in or out by parts of a step. */
static void cut_affine(lb_group_fit *g) {
    float lo = g->x[0], hi = lo;
    for (size_t i = 1; i < g->n; i++) {
        lo = g->x[i] < lo ? g->x[i] : lo;
        hi = g->x[i] > hi ? g->x[i] : hi;
    }
    const float range = hi - lo, n = g->levels->hi;
    if (!(range > 0)) {
        (void)try(g, 0, -lo);
        return;
    }
    const float step = range / n * 0.25f;
    for (i32 a = -1; a <= 4; a++)
        for (i32 b = -1; b <= 4; b++) {
            const float from = lo + step * (float)a, to = hi - step * (float)b;
            if (to > from)
                try_cut(g, (to - from) / n, -from);
        }
    if (n <= 3) /* few levels: far within the range */
        for (i32 a = 1; a <= 7; a++)
            for (i32 b = 1; a + b <= 14; b++)
                try_cut(g, range * (float)(16 - a - b) / (16 * n), -lo - range * (float)a / 16);
}

void lb_refine_group(lb_group_fit *g) {
    descend(g);
    if (g->affine)
        cut_affine(g);
    else
        cut_symmetric(g);
    descend(g);
}
