/* SPDX-License-Identifier: Apache-2.0 */
/* refine_fit.h: what the refinements share: values of a group against levels, least squares.
 *
 * Four values at a time in vectors that gcc and clang have on every machine; every operation is
 * IEEE's and sums have one order, so that the machine cannot be seen. */
#ifndef LB_KERNEL_REFINE_FIT_H
#define LB_KERNEL_REFINE_FIT_H

#include "kernel/quant.h"

#define LB_REFINE_MAX 256 /* values of a group */

typedef float lb_v4 __attribute__((vector_size(16)));
typedef i32 lb_m4 __attribute__((vector_size(16)));

/* Codes are whole numbers lo..hi, or those of an ascending table. */
typedef struct lb_levels {
    float lo, hi;
    const float *table; /* NULL: whole numbers */
    u32 n;              /* of the table */
    bool e4m3;          /* the values of that type instead */
} lb_levels;

/* Sums over a group: w, w x, w x^2 and, y being the chosen levels, w y, w x y, w y^2. */
typedef struct lb_sums {
    float w, x, xx, y, xy, yy;
} lb_sums;

static inline lb_v4 lb_v4_load(const float *p) {
    lb_v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void lb_v4_store(float *p, lb_v4 v) {
    memcpy(p, &v, sizeof v);
}
static inline lb_v4 lb_v4_all(float x) {
    return (lb_v4){x, x, x, x};
}
static inline lb_v4 lb_v4_pick(lb_m4 m, lb_v4 a, lb_v4 b) {
    return (lb_v4)((m & (lb_m4)a) | (~m & (lb_m4)b));
}
static inline float lb_v4_sum(lb_v4 v) {
    return (v[0] + v[2]) + (v[1] + v[3]);
}

/* To the nearest E4M3, ties to even; |v| <= 448. */
static inline lb_v4 lb_v4_e4m3(lb_v4 v) {
    const lb_m4 bits = (lb_m4)v & 0x7fffffff;
    const lb_m4 up = (bits + 0x7ffff + (bits >> 20 & 1)) & ~0xfffff;
    const lb_v4 small = (lb_v4)bits + 0x1.8p14f - 0x1.8p14f; /* multiples of 2^-9 */
    const lb_v4 r = lb_v4_pick(bits < 0x3c800000, small, (lb_v4)up);
    return (lb_v4)((lb_m4)r | ((lb_m4)v & (i32)0x80000000));
}

static inline lb_v4 lb_v4_level(const lb_levels *l, lb_v4 v) {
    const lb_v4 lo = lb_v4_all(l->lo), hi = lb_v4_all(l->hi), magic = lb_v4_all(12582912.0f);
    v = lb_v4_pick(v > lo, v, lo); /* a NaN, of 0 / 0, becomes lo */
    v = lb_v4_pick(v < hi, v, hi);
    if (l->e4m3)
        return lb_v4_e4m3(v);
    if (!l->table)
        return (v + magic) - magic;
    lb_v4 y = lo;
    for (u32 i = 1; i < l->n; i++) {
        const float a = l->table[i - 1], b = l->table[i];
        y += (lb_v4)((lb_m4)lb_v4_all(b - a) & (v > lb_v4_all(0.5f * (a + b))));
    }
    return y;
}

/* The levels y that are nearest to (x + off) / s, and the weighted error of s * y - off. */
static inline float lb_fit_levels(const lb_levels *l, size_t n, const float *x, const float *w,
                                  float s, float off, float *y) {
    const lb_v4 inverse = lb_v4_all(s != 0 ? 1 / s : 0), vs = lb_v4_all(s), vo = lb_v4_all(off);
    lb_v4 sum = {0};
    for (size_t i = 0; i < n; i += 4) {
        const lb_v4 v = lb_v4_load(x + i);
        const lb_v4 r = lb_v4_level(l, (v + vo) * inverse);
        const lb_v4 e = vs * r - vo - v;
        lb_v4_store(y + i, r);
        sum += lb_v4_load(w + i) * e * e;
    }
    return lb_v4_sum(sum);
}

static inline lb_sums lb_fit_sums(size_t n, const float *x, const float *w, const float *y) {
    lb_v4 sw = {0}, sx = {0}, sxx = {0}, sy = {0}, sxy = {0}, syy = {0};
    for (size_t i = 0; i < n; i += 4) {
        const lb_v4 vw = lb_v4_load(w + i), vx = lb_v4_load(x + i), vy = lb_v4_load(y + i);
        const lb_v4 wy = vw * vy, wx = vw * vx;
        sw += vw;
        sx += wx;
        sxx += wx * vx;
        sy += wy;
        sxy += wy * vx;
        syy += wy * vy;
    }
    return (lb_sums){lb_v4_sum(sw), lb_v4_sum(sx),  lb_v4_sum(sxx),
                     lb_v4_sum(sy), lb_v4_sum(sxy), lb_v4_sum(syy)};
}

/* x = s y - off by least squares; false: the levels are all one. */
static inline bool lb_fit_line(const lb_sums *t, float *s, float *off) {
    const double det = (double)t->w * (double)t->yy - (double)t->y * (double)t->y;
    if (!(det > 1e-9 * (double)t->w * (double)t->yy))
        return false;
    *s = (float)(((double)t->w * (double)t->xy - (double)t->x * (double)t->y) / det);
    *off = (float)(((double)t->y * (double)t->xy - (double)t->yy * (double)t->x) / det);
    return true;
}

/* ---- refine_fit.c ---- */

/* A power of two that brings the largest of n magnitudes into [1, 2); 1 of zeros. */
float lb_refine_unit(size_t n, const float *x);

/* How a scale or a minimum is stored: to that and back. */
typedef float lb_stored_fn(float x);
lb_stored_fn lb_stored_f16, lb_stored_bf16, lb_stored_f32;

/* x = s y - off of n values with scale and offset as they are stored, times unit: improves *s, *off
 * and y if it can, and returns the error. affine: with an offset. */
typedef struct lb_group_fit {
    const lb_levels *levels;
    size_t n;
    const float *x, *w;
    float unit; /* x is 1 / unit times what is stored */
    lb_stored_fn *stored;
    bool affine;
    float s, off, error;
    float y[LB_REFINE_MAX];
} lb_group_fit;
void lb_refine_group(lb_group_fit *g);

#endif
