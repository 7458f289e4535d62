/* SPDX-License-Identifier: Apache-2.0 */
/* work.h: the same function over many items on a few threads: for operations that read tensors and
 * write no model (hash, diff, verify). Those that write one are plans (plan/run.h). */
#ifndef LB_OPS_WORK_H
#define LB_OPS_WORK_H

#include "base/base.h"

#define LB_WORK_THREADS_MAX 256
/* Files open at a time, for lb_fds_new: below 256 with all else that a process holds. */
#define LB_WORK_FILES_MAX 240

/* Runs on thread `worker` (0..n_threads-1); items are handed out in rising order, each once. */
typedef lb_status lb_work_fn(void *ctx, u32 worker, u64 item, lb_err *err);

/* Returns when all items are done or one has failed; the error is that of the lowest item that
 * failed. Between items the interruption flag is looked at: LB_E_INTERRUPTED. The calling thread
 * works too; n_threads is cut to n_items and LB_WORK_THREADS_MAX. */
lb_status lb_work_run(u32 n_threads, u64 n_items, lb_work_fn *run, void *ctx, lb_err *err);

#endif
