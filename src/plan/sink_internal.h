/* SPDX-License-Identifier: Apache-2.0 */
/* sink_internal.h: what sink.c, turns.c, lay.c, finish.c, journal.c, resume.c and
 * target.c share. */
#ifndef LB_PLAN_SINK_INTERNAL_H
#define LB_PLAN_SINK_INTERNAL_H

#include "base/thread.h"
#include "plan/sink.h"

#define LB_SINK_OPEN 24 /* output files open at a time */
/* Write-back is started for so much at a time: for each of 100,000 small tensors it took most of
 * the run, a page being sent to the disk 64 times. */
#define LB_SINK_WRITEBACK (4 * LB_MIB)
/* Before a record: what was written is synced, when so much of it has come together or when the
 * last time is so long ago. */
#define LB_SINK_SYNC_BYTES (256 * LB_MIB)
#define LB_SINK_SYNC_US 1000000
#define LB_SINK_SPAN_BYTES LB_GIB
#define LB_SINK_BLOCK (128 * LB_KIB) /* of a file, in one page of the system's cache (lay.c) */

#define LB_SINK_WAKES 32

typedef struct lb_turn lb_turn;
typedef struct lb_sink_file {
    const char *path;
    int fd;
    u32 refs;
    u64 used;
    u64 dirty_bytes, dirty_from, dirty_to; /* written since write-back was last started */
    bool unsynced;                         /* written since it was last synced */
    u8 *laid; /* a bit for each whole LB_SINK_BLOCK that was written to; NULL: none are laid */
    /* who writes to it, and who has brought what (turns.c) */
    bool writing;
    lb_turn *turns, *turns_end; /* NULL: nobody waits */
} lb_sink_file;

/* A record of a job in progress: its first n_elems elements are written. */
typedef struct lb_span {
    struct lb_span *next; /* more elements */
    u64 n_elems;
    lb_sink_prefix *prefix; /* [n_streams] */
} lb_span;

struct lb_sink {
    lb_plan *plan;
    lb_sink_options o;
    lb_arena arena;
    lb_mutex mutex;
    lb_cond wake[LB_SINK_WAKES]; /* turns (turns.c) take them round about */
    u32 n_turns;
    const char *dir, *target, *partial, *aside, *journal_path;
    const char *sums, *sums_partial; /* OUT.sha256, for what is no folder */
    lb_sink_file *file;              /* [n_files] */
    u32 n_open;
    u64 clock;
    u64 unsynced_bytes, synced_us;
    bool syncing, dirs_synced;
    u8 *kept;            /* [n_jobs] */
    lb_span **spans;     /* [n_jobs]; NULL: none was read */
    lb_sink_part **part; /* [n_jobs]; NULL: none is kept */
    u64 *place;          /* [n_files, or 1] inodes of what was to be put in place; NULL: none */
    lb_str *stale;       /* parts of another split under the same name, to be removed */
    u64 n_stale;
    u8 *zeros; /* [LB_SINK_BLOCK]; NULL: none are laid */
    int journal_fd;
    u64 journal_len;
    u64 n_done;    /* jobs in the journal, finished or with a span */
    bool unsynced; /* a sync has failed: what the memory holds proves nothing */
    bool placed;   /* resumed, and all of the output stands under its final name already */
    bool created, finished, journal_new;
    char sha256[65];
};

/* sink.c */
lb_status lb_sink_get_fd(lb_sink *s, u32 file, int *fd, lb_err *err);
void lb_sink_put_fd(lb_sink *s, u32 file);
/* Notes a failure in the journal: what the system holds in memory may be lost. */
lb_status lb_sink_sync_fd(lb_sink *s, int fd, const char *path, lb_err *err);
/* Syncs what was written since the last time, if it is time; *synced tells. */
lb_status lb_sink_sync_due(lb_sink *s, bool *synced, lb_err *err);
lb_status lb_sink_close_files(lb_sink *s, lb_err *err);
bool lb_sink_stopped(const lb_sink *s);

/* lay.c */
lb_status lb_sink_lay_begin(lb_sink *s, lb_err *err); /* of a fresh output */
/* Zeros that a write takes along on either side, less than LB_SINK_BLOCK each. */
typedef struct lb_sink_pads {
    u64 before, after;
} lb_sink_pads;
/* Before a write, by who writes to the file. */
lb_sink_pads lb_sink_lay(lb_sink *s, u32 file, u64 off, u64 len);

/* target.c: refuses to overwrite what must not be. */
lb_status lb_sink_check_inputs(lb_sink *s, lb_err *err); /* output is or lies around an input */
lb_status lb_sink_check_target(lb_sink *s, lb_err *err); /* that, and what exists */
lb_status lb_sink_list_stale(lb_sink *s, lb_err *err);   /* into s->stale */

/* journal.c */
lb_status lb_journal_lock(lb_sink *s, lb_err *err);
/* Reads the records of an interrupted run; *fresh: there was nothing to go on with. */
lb_status lb_journal_read(lb_sink *s, bool *fresh, lb_err *err);
lb_status lb_journal_clear(lb_sink *s, lb_err *err);
lb_status lb_journal_begin(lb_sink *s, lb_err *err);
/* What is to be renamed next, by inode; synced. */
lb_status lb_journal_place(lb_sink *s, const u64 *inodes, u64 n, lb_err *err);
void lb_journal_unsynced(lb_sink *s);

/* resume.c */
/* After reading: where the run before had come to. *fresh: start anew. */
lb_status lb_resume_settle(lb_sink *s, bool *fresh, lb_err *err);
/* Hashes the kept bytes; those that differ are done again. */
lb_status lb_resume_verify(lb_sink *s, lb_err *err);

/* finish.c */
u64 lb_sink_n_places(const lb_sink *s);
/* Where file i (or the output as a whole) stands before and after it is put in place; NULL: out of
 * memory. */
const char *lb_sink_place_from(lb_sink *s, u64 i);
const char *lb_sink_place_to(lb_sink *s, u64 i);

#endif
