/* SPDX-License-Identifier: Apache-2.0 */
/* dense.h: the factorisations of dense nodes (kernel/la.h) on what a job holds. Layer plan only.
 *
 * Values are f32 outside and double inside. A factorisation is one thread's work; other jobs go on
 * meanwhile. */
#ifndef LB_PLAN_DENSE_H
#define LB_PLAN_DENSE_H

#include "kernel/kernel.h"
#include "plan/expr.h"

/* One node with its matrices. */
typedef struct lb_dense {
    const lb_node *node;
    u64 n_rows, n_cols; /* of the input */
    const float *input; /* [n_rows, n_cols]; NULL where rows are added up */
    const float *other; /* SVD: [other_rows, n_cols] */
    u64 other_rows;
    float *out;
    double *sums; /* of rows: triangle, then room for some in double */
    u8 *work;
} lb_dense;

/* Whether rows are added up as they come, so that the input is never held. */
bool lb_dense_adds_up(const lb_node *n);
/* What is held from the first row to the last beside input and output; while it is finished. */
u64 lb_dense_sums_bytes(const lb_node *n, u64 n_rows, u64 n_cols);
u64 lb_dense_work_bytes(const lb_node *n, u64 n_rows, u64 n_cols);
/* Takes the next rows, in order. */
void lb_dense_add(const lb_kernels *k, const lb_dense *d, u64 n_rows, const float *rows);
/* NULL, or why there are no factors. */
const char *lb_dense_finish(const lb_kernels *k, const lb_dense *d);

#endif
