/* SPDX-License-Identifier: Apache-2.0 */
/* stream_internal.h: between stream.c (what is in memory), stream_units.c (which bytes belong
 * together) and stream_read.c (the threads that read them). */
#ifndef LB_MODEL_STREAM_INTERNAL_H
#define LB_MODEL_STREAM_INTERNAL_H

#include "base/mapped.h"
#include "base/thread.h"
#include "model/hot.h"
#include "model/stream.h"
#include "model/stream_plan.h"

/* Bytes of a file that are wanted together. */
typedef struct lb_span {
    const u8 *from; /* where they are mapped */
    u64 n;
    u64 at; /* in the unit's buffer: as from modulo 64 */
    const lb_mapped *file;
} lb_span;

typedef struct lb_unit {
    u32 first_span, n_spans;
    u64 size_bytes; /* of its buffer */
    u8 *to;         /* its buffer; NULL: it has none */
    u32 slot;       /* of the ring; LB_UNIT_NONE: it is kept, or none */
    u32 users;
    /* under the lock, while it is read */
    u32 span;   /* the next piece that no thread has taken */
    u64 off;    /* in that span */
    u64 left;   /* bytes that have not come yet */
    u32 flying; /* pieces that are being read */
    bool queued;
    struct lb_unit *next; /* in the queue */
} lb_unit;

/* Threads that fill units. */
#define LB_READERS 4u
typedef struct lb_reading {
    lb_mutex lock;
    lb_cond work, done;
    lb_thread thread[LB_READERS];
    lb_unit *first; /* queue */
    const lb_span *spans;
    bool quit, failed;
    lb_err err; /* of the first that failed */
    u64 read_bytes;
} lb_reading;

void lb_reading_init(lb_reading *r, const lb_span *spans);
lb_status lb_reading_start(lb_reading *r, lb_err *err);
/* Waits for what is being read; the queue is given up. */
void lb_reading_stop(lb_reading *r);
void lb_reading_deinit(lb_reading *r);
/* u->to is to be filled; now: before all others. */
void lb_reading_add(lb_reading *r, lb_unit *u, bool now);
/* Until it is filled; the calling thread reads too. LB_E_IO. */
lb_status lb_reading_wait(lb_reading *r, lb_unit *u, lb_err *err);
lb_status lb_reading_status(lb_reading *r, lb_err *err);
/* It is not wanted any more: its buffer is free behind this. */
void lb_reading_cancel(lb_reading *r, lb_unit *u);

struct lb_stream {
    const struct lb_model *m;
    lb_stream_limit limit;
    lb_arena perm;
    lb_span *span;
    u64 n_spans;
    lb_unit *unit; /* dense ones: inputs, layers, head; then experts */
    u32 n_dense, n_units;
    u32 *experts_of;   /* [n_layers] first unit of a layer's experts; LB_UNIT_NONE: none */
    u32 n_expert;      /* of a layer */
    u64 *dense_bytes;  /* [n_dense] of buffers */
    u64 weights_bytes; /* of all spans */
    u64 mapped_bytes;  /* of what is read where it is mapped in any case: values, rows of tables */
    u64 expert_bytes;  /* the largest expert's */
    /* while it is on */
    bool on;
    bool stays; /* large pages were asked for */
    lb_stream_plan plan;
    u8 *memory; /* heap: kept units, ring, experts' slots */
    u64 memory_bytes;
    u8 *slots, *expert_slots;      /* in memory */
    u32 slot_unit[LB_STREAM_RING]; /* LB_UNIT_NONE: free */
    lb_hot hot;
    lb_reading reading;
};

/* Fills span, unit, experts_of and the sizes. */
lb_status lb_stream_list(lb_stream *s, lb_err *err);

#endif
