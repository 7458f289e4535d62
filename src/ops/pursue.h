/* SPDX-License-Identifier: Apache-2.0 */
/* pursue.h: matching pursuits of many vectors over the rows of a matrix (merge/pursuit.h): as many
 * at a time as the memory has room for; each step reads the rows once for all of them (scan.h).
 * What is found for a vector does not depend on the others. */
#ifndef LB_OPS_PURSUE_H
#define LB_OPS_PURSUE_H

#include "merge/pursuit.h"
#include "merge/rope.h"
#include "ops/scan.h"

typedef struct lb_pursue {
    const lb_rows *rows;
    const u32 *row; /* [n] the atoms */
    u64 n;
    u64 n_targets, k;
    const lb_rope *rope; /* not NULL: atoms are turned to what is left, not made orthogonal; their
                            positions stand in lb_pursuit.along */
    const lb_making_env *env;
    u64 memory_bytes;     /* for all of it */
    u64 memory_max_bytes; /* the same where one target takes more */
    u64 own_bytes;        /* a worker's memory for done */
    const char *name;     /* of the matrix, for messages */
    /* Puts target q into rest [n_cols]; stored: room for a row as it is stored. */
    lb_status (*fill)(void *ctx, u64 q, u8 *stored, float *rest, lb_err *err);
    /* Takes what was found, on any thread. */
    lb_status (*done)(void *ctx, const lb_pursuit *p, u64 q, u8 *own, lb_err *err);
    void (*progress)(void *ctx, u64 n); /* so many more targets; may be NULL */
    void *ctx;
} lb_pursue;

/* LB_E_LIMIT names the memory that is needed; LB_E_FORMAT: a target that is not finite. */
lb_status lb_pursue_run(const lb_pursue *p, lb_err *err);

#endif
