/* SPDX-License-Identifier: Apache-2.0 */
/* project.h: within model/: products of matrices with the rows of a batch, and what these rows are
 * made into for them. */
#ifndef LB_MODEL_PROJECT_H
#define LB_MODEL_PROJECT_H

#include "model/weights.h"

struct lb_context;

/* A matrix and what is added to its product; w NULL: it is not there. */
typedef struct lb_linear {
    const lb_mweight *w;
    const float *bias; /* [n_rows of a stack's matrix times n_stack]; NULL: none */
} lb_linear;

/* n rows of n_cols floats, stride apart, as products want them: made in each form when a matrix
 * asks for it, in one of two sets of buffers (`into`), where they stand until the next use of it.
 * What several products read is made once and handed on; rows of it in another order (those of an
 * expert together) are copies of the forms, not of the floats. */
typedef struct lb_acts {
    const u8 *row[LB_ACT_FORMS]; /* by lb_act_form; NULL: not made */
    u64 n_cols;
    size_t n;
    const float *x; /* NULL: row i is row first + of[i] / per of `from` */
    size_t stride;
    u32 into;
    struct lb_acts *from;
    const u32 *of;
    u32 first, per;
} lb_acts;
void lb_acts_make(lb_acts *a, const float *x, size_t stride, u64 n_cols, size_t n, u32 into);
/* The product of a matrix is to be computed: out [n, out_stride]. Nothing happens before
 * lb_project_run. */
void lb_project(struct lb_context *c, const lb_linear *l, lb_acts *a, float *out,
                size_t out_stride);
/* The same of one matrix of a stack, for n rows of a from the first on. */
typedef struct lb_some_rows {
    u32 matrix;
    size_t first, n;
} lb_some_rows;
void lb_project_some(struct lb_context *c, const lb_linear *l, lb_acts *a, const lb_some_rows *rows,
                     float *out, size_t out_stride);
void lb_project_run(struct lb_context *c);
/* Adds the bias to rows that are there. */
void lb_add_bias(struct lb_context *c, const lb_linear *l, float *out, size_t out_stride, size_t n);

#endif
