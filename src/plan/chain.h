/* SPDX-License-Identifier: Apache-2.0 */
/* chain.h: tensors that are read slice by slice, by several jobs or segments, in order: a stack of
 * experts that becomes one tensor each. Their hash goes on from slice to slice, so that the digest
 * of a source needs no second reading. */
#ifndef LB_PLAN_CHAIN_H
#define LB_PLAN_CHAIN_H

#include "plan/plan.h"

/* ---- planning: what is read in which order does not depend on tiles ---- */

void lb_chain_begin(lb_plan *p);
/* One pass of a job, in the order of jobs and segments. */
lb_status lb_chain_note(lb_plan *p, u64 job, const lb_pass *pass, lb_err *err);
/* Marks tensors whose slices follow each other from the first row to the last: LB_USED_CHAINED. */
void lb_chain_end(lb_plan *p);

/* ---- running ---- */

typedef struct lb_chain {
    lb_xxh state;
    u64 next_elem; /* UINT64_MAX: a slice is missing (it was kept from a run before) */
    bool busy;     /* a leaf is hashing its slice */
} lb_chain;

/* Of all tensors of a plan's sources. */
typedef struct lb_chains {
    u32 **no; /* [n_sources][n_tensors]: 1 + index into chain; NULL: none of this source */
    lb_chain *chain;
} lb_chains;

u64 lb_chains_bytes(const lb_plan *p); /* what init takes */
lb_status lb_chains_init(lb_chains *c, const lb_plan *p, lb_arena *perm, lb_err *err);
/* The chain of a leaf's part; NULL: it has none. */
lb_chain *lb_chains_of(const lb_chains *c, const lb_leaf *l, u32 part);
/* Whether all parts of the leaf go on where their chains are; then they are its own until the leaf
 * has advanced them. */
bool lb_chains_take(lb_chains *c, const lb_leaf *l, const lb_pass *pass);
/* After the leaf's pass: *done: that was the last slice. */
void lb_chain_advance(lb_chain *c, const lb_leaf *l, const lb_pass *pass, bool *done);

#endif
