/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h: how far an operation is, on stderr: a bar, plain lines or JSON lines. */
#ifndef LB_CLI_PROGRESS_H
#define LB_CLI_PROGRESS_H

#include "base/base.h"
#include "cli/cli.h"

typedef struct lb_progress {
    u32 mode; /* LB_PROGRESS_*, never AUTO after begin */
    const char *what;
    u64 begin_us, shown_us;
    u64 shown_done;
    bool shown; /* a bar stands on the line */
} lb_progress;

/* mode: the option's value; AUTO is a bar on a terminal, else plain lines. what: "convert". */
void lb_progress_begin(lb_progress *p, u32 mode, const char *what);
/* The callback of lb_run_options: one call at a time, from any thread. Cheap when it is too early
 * to show anything. */
void lb_progress_update(void *progress, u64 done_bytes, u64 total_bytes);
/* Takes the bar away. */
void lb_progress_end(lb_progress *p);

#endif
