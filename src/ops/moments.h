/* SPDX-License-Identifier: Apache-2.0 */
/* moments.h: means and covariances of rows of matrices that are too large to be held: products in
 * f32, a tile of rows at a time, tiles added up in double in their order. */
#ifndef LB_OPS_MOMENTS_H
#define LB_OPS_MOMENTS_H

#include "ops/rows.h"

/* mean [n_cols] of the listed rows; NULL: of all. */
lb_status lb_rows_mean(const lb_rows *r, const u32 *row, u64 n, double *mean, lb_err *err);

typedef struct lb_cross {
    const lb_rows *a, *b;     /* may be the same */
    const u32 *a_row, *b_row; /* [n] */
    u64 n;
    const double *a_mean, *b_mean; /* [n_cols] */
    const lb_making_env *env;
} lb_cross;
/* Beside out. */
u64 lb_cross_bytes(const lb_cross *c);
/* out [a's n_cols, b's n_cols] = the sum of (a_row - a_mean) (b_row - b_mean)^T */
lb_status lb_cross_run(const lb_cross *c, double *out, lb_err *err);

#endif
