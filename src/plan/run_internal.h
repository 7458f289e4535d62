/* SPDX-License-Identifier: Apache-2.0 */
/* run_internal.h: what run.c (scheduling), active.c (a job's course) and worker.c (one tile) share.
 */
#ifndef LB_PLAN_RUN_INTERNAL_H
#define LB_PLAN_RUN_INTERNAL_H

#include "base/thread.h"
#include "plan/run.h"
#include "plan/chain.h"
#include "plan/sink.h"

#define LB_OPEN_FILES 224 /* input files open at a time; outputs take the rest of 256 */

typedef struct lb_runner lb_runner;
typedef struct lb_active lb_active;

/* A tile between its issue and its commit. */
typedef struct lb_slot {
    u8 *slab;
    bool ready;
    u64 counts[LB_ROOTS_MAX][2]; /* its values rounded and overflowed */
} lb_slot;

/* Beside a running job, and kept for the next one in its place. */
typedef struct lb_draws {
    lb_mutex mutex;  /* of lb_active.mask, next_tile and begun */
    u64 next_tile;   /* where lb_active.mask stands: tiles before it have begun */
    u64 begun;       /* bit i: tile next_tile + i has */
    lb_mt19937 near; /* where the last round began to draw */
} lb_draws;

/* A running job. busy: its pass is being changed, no tile may be issued. */
struct lb_active {
    lb_active *next;
    lb_job *job;
    u64 index;
    lb_arena arena; /* program of the current segment */
    lb_prog prog;
    lb_pass *pass;
    u32 segment, pass_index;
    /* The round of the pass: how many tiles of what kind; whether all bytes are read for the first
     * time. PLACE: the tiles are those of windows, one after the other. */
    lb_visit visit;
    u64 n_tiles;
    bool reads_all;
    struct lb_window *windows; /* [n_windows] room: lb_window_most */
    u32 n_windows;
    lb_held *held;    /* [n_results] */
    u8 *fixed;        /* the held matrices' memory */
    int spill_fd;     /* those that are too large for it; -1: none */
    lb_draws *draws;  /* NULL: the plan draws nothing */
    lb_mt19937 *mask; /* [pass->n_masks] where the tiles that nobody has begun draw; of draws */
    u64 next_tile, n_committed;
    bool committing, busy, done;
    lb_slot *ring; /* [window] */
    u64 first_row; /* rows of the segments before */
    lb_xxh hash[LB_ROOTS_MAX];
    u64 counts[LB_ROOTS_MAX][2]; /* of the committed tiles */
    u64 kept_elems;              /* of each stream, written by a run before; 0: none */
    u64 skip;                    /* of the current pass's elements, those that are kept */
    u64 span_bytes, since_span;  /* committed bytes after which a record is made; since the last */
    struct lb_leaf_hash *leaf_hash; /* [n_leaves] of the current pass; NULL: none is hashed */
    lb_sink_hash *hashes;           /* of source tensors, for the journal; grows over segments */
    u32 n_hashes, cap_hashes, n_recorded; /* n_recorded: of them in the journal */
    lb_arena hashes_arena;
};

/* Tiles of a pass, in order. */
typedef struct lb_window {
    u64 first, end;
} lb_window;
static inline u64 lb_window_most(const lb_prog *p) {
    return (u64)p->n_results * LB_SELECT_RANKS + 1;
}

typedef struct lb_leaf_hash {
    bool on;
    bool shared;                   /* the stream's hash is this one: the bytes are copied */
    lb_chain *chain[LB_PARTS_MAX]; /* goes on from an earlier slice of the tensor; else NULL */
    lb_xxh state[LB_PARTS_MAX];
} lb_leaf_hash;

/* A piece of a row range of a part: one row, where it goes. */
typedef struct lb_seg {
    u64 row;
    u8 *ptr;
} lb_seg;

typedef struct lb_worker {
    lb_runner *runner;
    lb_thread thread;
    lb_eval eval;
    lb_encoding encoding;
    lb_mt19937 *mask;   /* [pass->n_masks] of the tile */
    lb_seg *segs;       /* [LB_SEGS_MAX] */
    struct lb_iov *iov; /* [LB_IOV_PIECES] */
    u8 *gap;            /* [LB_GAP_BYTES] where bytes between rows go */
    u8 *scratch;
    u64 scratch_bytes;
    u64 read_bytes, written_bytes; /* of the last tile */
    bool reads_again;              /* not for the first time */
} lb_worker;
#define LB_SPILL_NAME "temporary file" /* it has no name: for messages */
#define LB_IOV_PIECES 512
/* Bytes between two rows that are read along: a call of its own costs as much as 4 KiB (0.45 us on
 * an EPYC, page cache), and a piece of a call a tenth of that. */
#define LB_GAP_BYTES 2048
#define LB_HASH_BYTES (256 * LB_KIB) /* read at a time where they are hashed at once: in an L2 */
#define LB_AHEAD_BYTES (16 * LB_MIB) /* how far before a tile its bytes are asked for */

struct lb_runner {
    lb_plan *plan;
    const lb_run_options *opt;
    lb_arena arena;
    lb_mutex mutex;
    lb_cond wake;
    lb_pool *pool;
    lb_fds **fds; /* [n_sources] */
    lb_chains chains;
    lb_worker *workers;
    lb_active *actives; /* [max_active] */
    lb_active **active; /* running, in job order */
    lb_active *free_list;
    u32 n_active, max_active, window, in_flight;
    u64 next_job, kept_jobs, done_bytes;
    lb_err err;
    lb_run_report report;
};

/* run.c: after the jobs: counts and reports bytes read; LB_E_INTERRUPTED when asked to stop. */
lb_status lb_run_note_read(lb_runner *r, u64 bytes, lb_err *err);

/* active.c */
void lb_active_begin(lb_runner *r, lb_active *a, u64 job, u8 *fixed);
/* Goes on to the next round, pass or segment that has tiles, or finishes the job. Not locked. */
lb_status lb_active_advance(lb_runner *r, lb_active *a, lb_err *err);
lb_status lb_active_end_round(lb_runner *r, lb_active *a, lb_err *err);
/* After the job, or after a failure: gives the spill file back. */
void lb_active_end(lb_active *a);
/* The place of a round's tile; of the first one after an interruption, what is left of it. */
lb_rect lb_active_tile(const lb_active *a, u64 tile);
u64 lb_active_number(const lb_active *a, u64 tile); /* in the pass; of a sample the piece's */
/* After a tile's commit: records how far the job has come, if it is large and it is time. */
lb_status lb_active_span(lb_runner *r, lb_active *a, lb_rect tile, lb_err *err);
/* Hashes the tensors that no job read whole. */
lb_status lb_run_digests(lb_runner *r, lb_err *err);

/* worker.c */
lb_status lb_worker_init(lb_worker *w, lb_runner *r, lb_err *err);
void lb_worker_deinit(lb_worker *w);
lb_status lb_worker_tile(lb_worker *w, lb_active *a, u64 tile, u8 *slab, lb_err *err);
lb_status lb_worker_commit(lb_worker *w, lb_active *a, u64 tile, u8 *slab, lb_err *err);

#endif
