/* SPDX-License-Identifier: Apache-2.0 */
/* pursuit.c: see pursuit.h. */
#include "merge/pursuit.h"
#include <math.h>

/* Below this part of what it was, a vector is what rounding f32 values has left of it. */
#define NOTHING 1e-6

static u64 aligned(u64 n) {
    return (n + 63) / 64 * 64;
}

u64 lb_pursuit_bytes(u64 d, u64 k, bool basis) {
    return (basis ? aligned(k * d * sizeof(float)) + aligned(k * (k + 1) / 2 * sizeof(double))
                  : 0) +
           aligned(k * sizeof(double)) + aligned(k * sizeof(u32));
}

void lb_pursuit_place(lb_pursuit *p, u64 d, u64 k, float *rest, void *memory) {
    u8 *at = memory;
    *p = (lb_pursuit){.d = d, .k = k, .rest = rest};
    p->basis = (float *)(void *)at;
    at += aligned(k * d * sizeof(float));
    p->upper = (double *)(void *)at;
    at += aligned(k * (k + 1) / 2 * sizeof(double));
    p->along = (double *)(void *)at;
    at += aligned(k * sizeof(double));
    p->atom = (u32 *)(void *)at;
}

void lb_pursuit_place_bare(lb_pursuit *p, u64 d, u64 k, float *rest, void *memory) {
    u8 *at = memory;
    *p = (lb_pursuit){.d = d, .k = k, .rest = rest};
    p->along = (double *)(void *)at;
    p->atom = (u32 *)(void *)(at + aligned(k * sizeof(double)));
}

static double dot(const lb_kernels *kernels, const float *a, const float *b, u64 n) {
    double s = 0;
    for (u64 i = 0; i < n; i += LB_FOLD_LEAF)
        s += kernels->fold_dot_f32((size_t)LB_MIN(n - i, LB_FOLD_LEAF), a + i, b + i);
    return s;
}

bool lb_pursuit_begin(lb_pursuit *p, const lb_kernels *kernels) {
    double square = dot(kernels, p->rest, p->rest, p->d);
    p->n = 0;
    p->norm = sqrt(square);
    p->done = p->k == 0 || square == 0;
    return square - square == 0;
}

bool lb_pursuit_has(const lb_pursuit *p, u32 atom) {
    for (u64 i = 0; i < p->n; i++)
        if (p->atom[i] == atom)
            return true;
    return false;
}

/* Takes the part of x along a unit vector away; returns how much it was. */
static double take_away(const lb_kernels *kernels, float *x, const float *unit, u64 n) {
    float along = (float)dot(kernels, x, unit, n);
    kernels->map_fmac_f32((size_t)n, x, unit, -along, x);
    return along;
}

void lb_pursuit_take(lb_pursuit *p, const lb_kernels *kernels, u32 atom, float *row) {
    double *column = p->upper + p->n * (p->n + 1) / 2;
    double whole = sqrt(dot(kernels, row, row, p->d));
    for (u64 i = 0; i <= p->n; i++)
        column[i] = 0;
    for (u32 twice = 0; twice < 2; twice++)
        for (u64 i = 0; i < p->n; i++)
            column[i] += take_away(kernels, row, p->basis + i * p->d, p->d);
    float left = (float)sqrt(dot(kernels, row, row, p->d));
    if (!((double)left > NOTHING * whole)) {
        p->done = true;
        return;
    }
    float *unit = p->basis + p->n * p->d;
    kernels->map_divc_f32((size_t)p->d, unit, row, left);
    column[p->n] = left;
    p->along[p->n] = take_away(kernels, p->rest, unit, p->d);
    p->atom[p->n++] = atom;
    double rest = sqrt(dot(kernels, p->rest, p->rest, p->d));
    p->done = p->n == p->k || !(rest > NOTHING * p->norm);
}

void lb_pursuit_solve(const lb_pursuit *p, double *coefficient) {
    for (u64 i = p->n; i-- > 0;) {
        double s = p->along[i];
        for (u64 j = i + 1; j < p->n; j++)
            s -= p->upper[j * (j + 1) / 2 + i] * coefficient[j];
        coefficient[i] = s / p->upper[i * (i + 1) / 2 + i];
    }
}
