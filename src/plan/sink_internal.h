/* SPDX-License-Identifier: Apache-2.0 */
/* sink_internal.h: what sink.c, journal.c and target.c share. */
#ifndef LB_PLAN_SINK_INTERNAL_H
#define LB_PLAN_SINK_INTERNAL_H

#include "base/thread.h"
#include "plan/sink.h"

#define LB_SINK_OPEN 24 /* output files open at a time */
/* Write-back is started for so much at a time: for each of 100,000 small tensors it took most of
 * the run, a page being sent to the disk 64 times. */
#define LB_SINK_WRITEBACK (4 * LB_MIB)

typedef struct lb_sink_file {
    const char *path;
    int fd;
    u32 refs;
    u64 used;
    u64 dirty_bytes, dirty_from, dirty_to; /* written since write-back was last started */
} lb_sink_file;

struct lb_sink {
    lb_plan *plan;
    lb_sink_options o;
    lb_arena arena;
    lb_mutex mutex;
    const char *dir, *target, *partial, *aside, *journal_path;
    const char *sums; /* OUT.sha256, for what is no folder */
    lb_str sums_text;
    lb_sink_file *file; /* [n_files] */
    u32 n_open;
    u64 clock;
    u8 *kept; /* [n_jobs] */
    int journal_fd;
    u64 journal_len;
    u64 n_done; /* jobs in the journal */
    bool created, finished, journal_new;
    char sha256[65];
};

/* target.c: refuses to overwrite what must not be. */
lb_status lb_sink_check_target(lb_sink *s, lb_err *err);

/* journal.c */
lb_status lb_journal_lock(lb_sink *s, lb_err *err);
/* Reads the records of an interrupted run; *fresh: there was nothing to go on with. */
lb_status lb_journal_read(lb_sink *s, bool *fresh, lb_err *err);
/* Hashes the kept jobs' bytes in the partial; those that differ are done again. */
lb_status lb_journal_verify(lb_sink *s, lb_err *err);
lb_status lb_journal_begin(lb_sink *s, lb_err *err);

#endif
