/* SPDX-License-Identifier: Apache-2.0 */
/* team.h: threads that carry out one small job after the other together: thousands of them a
 * second, each of some microseconds to milliseconds.
 *
 * A job is a number of items, which are taken as threads come, in runs of neighbours that become
 * shorter to the end, so that a thread that the system has stopped costs its share and no more. Who
 * has nothing to do spins for some microseconds and then sleeps: on a busy machine a thread that
 * spins would use up the time in which the others could work. */
#ifndef LB_MODEL_TEAM_H
#define LB_MODEL_TEAM_H

#include "base/base.h"

typedef struct lb_team lb_team;

/* n_threads: the caller's included, at least 1. scratch_bytes: for each. */
lb_status lb_team_new(lb_team **out, u32 n_threads, size_t scratch_bytes, lb_err *err);
void lb_team_free(lb_team **t);
u32 lb_team_threads(const lb_team *t);

/* scratch: the thread's own, aligned to 64. */
typedef void lb_team_fn(void *ctx, u64 item, void *scratch);
/* The caller alone, with its scratch. */
void lb_team_alone(lb_team *t, u64 n_items, lb_team_fn *fn, void *ctx);
/* Returns when all items are done. One at a time, from one thread. */
void lb_team_run(lb_team *t, u64 n_items, lb_team_fn *fn, void *ctx);

#endif
