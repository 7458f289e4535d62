/* SPDX-License-Identifier: Apache-2.0 */
/* diff.h: two models compared value by value, whatever their formats and types.
 *
 * Weights are paired by canonical name (ops/canon.h), layouts are undone, packed types decoded.
 * Values are read once, in tiles; memory is n_threads times a few tiles. Results do not depend on
 * threads. */
#ifndef LB_OPS_DIFF_H
#define LB_OPS_DIFF_H

#include "base/base.h"
#include "base/mem.h"
#include "kernel/kernel.h"
#include "tensor/source.h"

typedef struct lb_diff_row {
    lb_str name;               /* canonical where known, else as stored in A */
    const lb_weight *a, *b;    /* as stored; NULL: one of the models is computed */
    lb_shape shape_a, shape_b; /* of what is compared: of a stack, one matrix */
    bool same_shape;           /* else nothing below is set but identical = false */
    bool identical; /* equal as values (NaN equals NaN, -0 equals +0), or rel <= tolerance */
    double max_abs, rmse, rel, cosine;
    double sum_dd, sum_aa, sum_bb, sum_ab; /* over finite values; dd: infinite if any is */
    u64 n_values;
} lb_diff_row;

/* Of several rows together, as if they were one vector: large tensors weigh more. */
typedef struct lb_diff_total {
    u64 n_rows, n_values;
    double max_abs, rmse, rel, cosine;
    double sum_dd, sum_aa, sum_bb, sum_ab; /* what they come from */
} lb_diff_total;
/* Adds a row of the same shape; figures are set anew. Start with zeros. */
void lb_diff_add(lb_diff_total *t, const lb_diff_row *r);

typedef struct lb_diff {
    lb_diff_row *rows; /* in A's order */
    u64 n_rows, n_different;
    lb_str *only_in_a, *only_in_b; /* names as stored */
    u64 n_only_in_a, n_only_in_b;
    /* Weights that the other format computes or never stores (rope factors of GGUF, inverse
     * frequencies): compared where both have them, else no difference. */
    lb_str *left_out;
    u64 n_left_out;
    u64 bytes_read;
    lb_diff_total total;  /* of all rows of the same shape */
    lb_diff_total differ; /* of those with a value that differs: norms and the like, which stay as
                             they are, may be larger than all that a quantizer changes */
    bool identical;       /* no different rows, nothing in one only */
} lb_diff;

typedef struct lb_diff_options {
    const lb_kernels *kernels;
    u32 n_threads;
    u64 memory_bytes; /* fewer threads rather than more than half of it */
    double tolerance; /* 0: only equal values are equal */
    void (*progress)(void *user, u64 done_bytes, u64 total_bytes); /* may be NULL */
    void *user;
} lb_diff_options;

/* Differences are no error: LB_OK, and out->identical says it. All memory is the arena's. */
lb_status lb_diff_run(lb_diff *out, const lb_source *a, const lb_source *b,
                      const lb_diff_options *o, lb_arena *perm, lb_err *err);
/* `lbrx diff --json` */
lb_status lb_diff_json(const lb_diff *d, lb_buf *out, lb_err *err);

#endif
