/* SPDX-License-Identifier: Apache-2.0 */
/* stream_plan.h: which weights stay in memory and which are read again and again, under a budget.
 *
 * Dense weights come in units (a layer, the head) that are used one after the other in each pass:
 * some are kept for good, the rest go through a ring of LB_STREAM_RING slots, one of which is read
 * while another is used. Experts go to slots of one size (hot.h). */
#ifndef LB_MODEL_STREAM_PLAN_H
#define LB_MODEL_STREAM_PLAN_H

#include "base/base.h"

#define LB_STREAM_RING 2u

typedef struct lb_stream_sizes {
    const u64 *dense; /* [n_dense] bytes of each unit, in the order of use */
    u32 n_dense;
    u64 expert_bytes; /* of the largest; 0: there are none */
    u64 n_experts;    /* of all layers together */
    u32 n_together;   /* that must fit at a time, at least */
} lb_stream_sizes;

typedef struct lb_stream_plan {
    u8 *kept;        /* [n_dense] the caller's: 1: it stays */
    u64 kept_bytes;  /* together */
    u64 slot_bytes;  /* of one of the ring; 0: all is kept */
    u64 n_slots;     /* for experts */
    u64 pass_bytes;  /* dense ones that are read in each pass */
    u64 least_bytes; /* with which anything works */
} lb_stream_plan;

/* All there is: a budget of so much keeps everything. */
u64 lb_stream_plan_all(const lb_stream_sizes *s);
/* Bytes that the plan takes. */
u64 lb_stream_plan_bytes(const lb_stream_sizes *s, const lb_stream_plan *p);
/* The plan that reads least; false: the budget is below least_bytes, which is set in any case. */
bool lb_stream_plan_make(const lb_stream_sizes *s, u64 budget_bytes, lb_stream_plan *p);

#endif
