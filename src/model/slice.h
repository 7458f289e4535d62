/* SPDX-License-Identifier: Apache-2.0 */
/* slice.h: what one of several devices has of a matrix that they share: some rows, or some columns
 * of all rows. */
#ifndef LB_MODEL_SLICE_H
#define LB_MODEL_SLICE_H

#include "kernel/matmul.h"

typedef struct lb_span {
    u64 from, n;
} lb_span;

/* The rank-th of n_ranks parts of `all`, which is a number of units, as equal as whole units are.
 */
lb_span lb_span_of_rank(u64 all, u64 unit, u32 rank, u32 n_ranks);
/* Where columns, rows can be parted: between blocks, groups, scales. */
u64 lb_mat_col_unit(const lb_mat *m);
u64 lb_mat_row_unit(const lb_mat *m);
/* Columns of all rows; at borders of units. For rows there is lb_mat_part. */
lb_mat lb_mat_cols(const lb_mat *m, lb_span cols);

#endif
