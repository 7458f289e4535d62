/* SPDX-License-Identifier: Apache-2.0 */
/* making.h: a source whose bytes are made by the first run that reads them: values that need their
 * inputs whole and again and again, which no tile has. Its one file has a size and no path until
 * then; it becomes a temporary file without a name, which lives as long as the source. */
#ifndef LB_PLAN_MAKING_H
#define LB_PLAN_MAKING_H

#include "plan/run.h"

/* What a maker may use. Its threads are its own; all memory goes through base/mem.h. */
typedef struct lb_making_env {
    const lb_kernels *kernels;
    const char *temp_dir; /* NULL: as lb_os_open_temp */
    u64 memory_bytes;     /* of buffers, beside what the process holds already: enough of it */
    u64 memory_max_bytes; /* for what cannot do with less: all of the budget */
    u32 threads;
    bool (*stop)(void *);                                      /* may be NULL */
    void (*progress)(void *, u64 done_bytes, u64 total_bytes); /* may be NULL; any thread */
    void *user;
} lb_making_env;

typedef struct lb_making {
    lb_str identity; /* what the bytes follow from beside the plan's other sources */
    /* Fills the file, which has its size and holds zeros. */
    lb_status (*make)(struct lb_making *m, const lb_making_env *env, int fd, lb_err *err);
} lb_making;

/* s: a source of one file, all of whose tensors lie in it. size_bytes: of that file. */
lb_status lb_making_file(lb_source *s, lb_making *m, u64 size_bytes, lb_err *err);
/* Makes what the plan reads and is not made. */
lb_status lb_making_run(const lb_plan *p, const lb_run_options *o, lb_err *err);

#endif
