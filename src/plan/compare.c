/* SPDX-License-Identifier: Apache-2.0 */
/* compare.c: see compare.h. */
#include "plan/compare.h"
#include <math.h>

void lb_compare_pair(lb_compare *c, double a, double b, bool equal) {
    if (isfinite(a) && isfinite(b)) {
        double d = equal ? 0 : fabs(a - b);
        c->sum_aa += a * a;
        c->sum_bb += b * b;
        c->sum_ab += a * b;
        c->sum_dd += d * d;
        c->max_abs = fmax(c->max_abs, d);
    } else if (!equal) {
        c->n_infinite++;
    }
    c->n_different += !equal;
}

void lb_compare_leaf(lb_compare *c, const lb_kernels *k, u64 n, const float *a, const float *b,
                     float *d) {
    float ra[2] = {INFINITY, -INFINITY}, rb[2] = {INFINITY, -INFINITY};
    float rd[2] = {INFINITY, -INFINITY};
    if (k->fold_range_f32((size_t)n, a, ra) | k->fold_range_f32((size_t)n, b, rb)) {
        for (u64 i = 0; i < n; i++)
            lb_compare_pair(c, (double)a[i], (double)b[i],
                            a[i] == b[i] || (isnan(a[i]) && isnan(b[i])));
        return;
    }
    k->map_sub_f32((size_t)n, d, a, b);
    c->n_infinite += k->fold_range_f32((size_t)n, d, rd); /* huge minus minus huge */
    double m = fmax(fabs((double)rd[0]), fabs((double)rd[1]));
    c->max_abs = fmax(c->max_abs, m);
    c->n_different += m > 0; /* a difference of two f32 is zero only if they are equal */
    if (m > 0)
        c->sum_dd += k->fold_dot_f32((size_t)n, d, d);
    c->sum_aa += k->fold_dot_f32((size_t)n, a, a);
    c->sum_bb += k->fold_dot_f32((size_t)n, b, b);
    c->sum_ab += k->fold_dot_f32((size_t)n, a, b);
}

void lb_compare_add(lb_compare *c, const lb_compare *part) {
    c->max_abs = fmax(c->max_abs, part->max_abs);
    c->sum_dd += part->sum_dd;
    c->sum_aa += part->sum_aa;
    c->sum_bb += part->sum_bb;
    c->sum_ab += part->sum_ab;
    c->n_different += part->n_different;
    c->n_infinite += part->n_infinite;
}
