/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h: weights that do not fit the memory there is: read from their files while a model runs.
 *
 * Weights are named by where they are mapped, but what is computed with are copies in buffers: of
 * the layers that stay, of those that are read in turn, ahead of their use, by threads
 * (stream_plan.h), and of experts, when they are chosen (hot.h). Rows of tables (embeddings) come
 * from the map, whose pages are given back at once. All of it is decided before a session's first
 * batch: where everything fits, weights stay where they are mapped, and nothing here is used, or,
 * where that is asked for, all are copied (large pages: reading them takes fewer walks through
 * tables). Sessions of one model may be several, but one computes at a time. */
#ifndef LB_MODEL_STREAM_H
#define LB_MODEL_STREAM_H

#include "model/weights.h"

typedef struct lb_stream lb_stream;

/* How the memory of a process is to be shared. */
typedef struct lb_stream_limit {
    u64 total_bytes;   /* weights, heap (lb_mem_used) and `process_bytes`; 0: no limit */
    u64 process_bytes; /* beside the heap */
    bool copy;         /* all weights into buffers; LB_E_LIMIT where they do not fit */
    /* Called when a session begins to read weights from their files; may be NULL. */
    void (*begins)(void *user, const lb_stream *s);
    void *user;
} lb_stream_limit;

/* What comes of it. */
typedef struct lb_stream_figures {
    bool streamed;      /* else all are where they are mapped */
    bool copied;        /* all of them into buffers */
    u64 weights_bytes;  /* of all matrices */
    u64 memory_bytes;   /* of buffers for them */
    u64 pass_bytes;     /* read from the files for each batch, beside experts */
    u64 expert_bytes;   /* of one; 0: there are none */
    u64 n_expert_slots; /* that stay in memory, of n_experts */
    u64 n_experts;
    u64 read_bytes; /* so far */
} lb_stream_figures;
void lb_stream_tell(const lb_stream *s, lb_stream_figures *out);

/* ---- within model/ ---- */

#define LB_UNIT_NONE UINT32_MAX

struct lb_model;
/* Without a limit until one is set. */
lb_status lb_stream_new(lb_stream **out, const struct lb_model *m, lb_err *err);
void lb_stream_free(lb_stream **s);
void lb_stream_set_limit(lb_stream *s, const lb_stream_limit *l);
/* Decides, for a session that will ask for so many bytes more and takes up to n_rows tokens at a
 * time. LB_E_LIMIT: nothing works. */
lb_status lb_stream_begin(lb_stream *s, u64 more_bytes, u64 n_rows, lb_err *err);
/* Whether that would work, while there is no session; what an old one had is given up. */
lb_status lb_stream_check(lb_stream *s, u64 more_bytes, u64 n_rows, lb_err *err);
bool lb_stream_is_on(const lb_stream *s);

/* Units: dense ones of layer i, and those before and behind all layers. */
u32 lb_stream_layer(const lb_stream *s, u32 layer);
u32 lb_stream_inputs(const lb_stream *s);
u32 lb_stream_head(const lb_stream *s);
/* The unit of a matrix of w; LB_UNIT_NONE: it is not the model's. */
u32 lb_stream_unit(const lb_stream *s, const lb_mweight *w, u32 matrix);
bool lb_stream_is_expert(const lb_stream *s, u32 unit, u32 *layer);
/* Waits until a dense unit is in memory, where it stays until it is left; those that follow are
 * read meanwhile. LB_E_IO. */
lb_status lb_stream_enter(lb_stream *s, u32 unit, lb_err *err);
void lb_stream_leave(lb_stream *s, u32 unit);
/* The same of some experts of a layer, at most lb_stream_n_together. */
u32 lb_stream_n_together(const lb_stream *s);
lb_status lb_stream_hold(lb_stream *s, u32 layer, const u32 *expert, u32 n, lb_err *err);
void lb_stream_drop(lb_stream *s, u32 layer, const u32 *expert, u32 n);
/* A matrix where it is now: of the dense unit, or of an expert of its layer, that is in memory. */
lb_mat lb_stream_mat(const lb_stream *s, const lb_mat *m, u32 unit, u32 expert);
/* Rows of a table or tensor were read where they are mapped: its pages are given back. */
void lb_stream_let_go(const lb_stream *s, const lb_mweight *w);

#endif
