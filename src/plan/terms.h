/* SPDX-License-Identifier: Apache-2.0 */
/* terms.h: what a matrix is more than another one: the low-rank terms that were added to it, found
 * in the graph. Nothing is computed; nodes are only made for rows and names. */
#ifndef LB_PLAN_TERMS_H
#define LB_PLAN_TERMS_H

#include "base/hash.h"
#include "plan/expr.h"

/* Rows [from, from + n_rows) have scale * b a more; b [n_rows, rank], a [rank, columns]: values. */
typedef struct lb_term {
    u64 from, n_rows, rank;
    lb_node_id b, a;
    float scale;
} lb_term;

typedef struct lb_terms {
    lb_term *list; /* in the order in which they are added */
    u32 n, cap;
} lb_terms;

/* Whether both are computed in the same way from the same stored bytes (of whatever sources of the
 * graph, which may have opened a file twice). False also where that is not found out. */
bool lb_expr_same(const lb_graph *g, lb_node_id a, lb_node_id b);
/* NULL where x is anything else than `base` and such terms; none of them: x is base. The list is
 * the arena's. LB_E_NOMEM. */
lb_status lb_expr_terms(const lb_graph *g, lb_node_id x, lb_node_id base, lb_arena *perm,
                        lb_terms **out, lb_err *err);

/* Hash of what a node says itself, its inputs (and a map's stat) left aside; not of reads. */
lb_hash128 lb_node_own_hash(const lb_graph *g, const lb_node *n);

#endif
