/* SPDX-License-Identifier: Apache-2.0 */
/* compare.h: how two lists of values differ.
 *
 * A stat node of two inputs whose results go to the caller's memory, or the same of leaves of
 * values that lie somewhere. Sums are folded like those of every stat (LB_FOLD_LEAF, leaves in
 * index order), so that neither tiles nor threads can be seen in them. */
#ifndef LB_PLAN_COMPARE_H
#define LB_PLAN_COMPARE_H

#include "kernel/kernel.h"
#include "plan/expr.h"

/* Equal: of one value, or both NaN. Sums are over pairs of which both are finite. */
typedef struct lb_compare {
    double max_abs, sum_dd, sum_aa, sum_bb, sum_ab; /* d: a - b */
    u64 n_different;
    u64 n_infinite; /* differences that are not finite */
} lb_compare;

/* a, b: values of one shape. The run adds to c, which outlives the graph: zero it before. A
 * survey's root: only that of a job with one segment. */
lb_node_id lb_expr_compare(lb_graph *g, lb_node_id a, lb_node_id b, lb_compare *c);

/* Adds one leaf: LB_FOLD_LEAF values at most of one row. d: room for as many. */
void lb_compare_leaf(lb_compare *c, const lb_kernels *k, u64 n, const float *a, const float *b,
                     float *d);
/* Adds one pair. */
void lb_compare_pair(lb_compare *c, double a, double b, bool equal);
void lb_compare_add(lb_compare *c, const lb_compare *part);

#endif
