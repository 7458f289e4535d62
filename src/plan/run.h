/* SPDX-License-Identifier: Apache-2.0 */
/* run.h: carries out a closed plan: tiles flow from the sources through workers into the sink.
 *
 * Each worker takes the next tile in plan order, reads it, computes it and writes it by itself: the
 * data stay in one core's cache, and a thread that waits for the disk leaves its core to another.
 * Read-ahead is asked for well before a tile's turn. Hashes and folds are committed in tile order.
 * Nothing is allocated beyond the pool's limit. */
#ifndef LB_PLAN_RUN_H
#define LB_PLAN_RUN_H

#include "plan/eval.h"
#include "plan/plan.h"
#include "plan/pool.h"

struct lb_sink;

typedef struct lb_run_options {
    const lb_kernels *kernels;
    lb_quant_device *encoder; /* quantizes what it takes; NULL: all is done by the kernels */
    struct lb_sink *sink;     /* NULL: everything runs, nothing is written */
    const int *raw_fd;        /* or here, of a plan with one file and nothing beside its streams */
    const char *temp_dir;     /* for spill files; NULL: TMPDIR, else /tmp */
    bool (*stop)(void *);     /* polled: true ends the run with LB_E_INTERRUPTED; may be NULL */
    void (*progress)(void *, u64 done_bytes,
                     u64 total_bytes); /* may be NULL; any thread, one at a time */
    void *user;
} lb_run_options;

typedef struct lb_run_report {
    u64 bytes_read, bytes_written, bytes_moved;
    u64 bytes_again; /* read beside the plan's: where exact selections took samples, and looked
                        again */
    u64 resumed_jobs;
    lb_pool_stats pool;
} lb_run_report;

lb_status lb_run(lb_plan *p, const lb_run_options *o, lb_run_report *report, lb_err *err);

/* ---- for the planner ---- */
#define LB_DIGEST_BYTES (256 * LB_KIB) /* the buffer of what is hashed after the jobs */
u64 lb_worker_bytes(const lb_pass *p); /* scratch of one worker */
/* What a running job keeps in the heap beside its program. */
u64 lb_active_bytes(const lb_prog *p, bool digests, u32 n_segments);
/* Bookkeeping of a run of p->threads and p->window; program_bytes: the largest job's program and
 * lb_active_bytes. */
u64 lb_run_state_bytes(const lb_plan *p, u64 program_bytes);
u64 lb_run_base_bytes(void); /* data of this process now (heap, program's variables) */

#endif
