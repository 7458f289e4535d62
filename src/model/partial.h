/* SPDX-License-Identifier: Apache-2.0 */
/* partial.h: a session step by step, for those who look into a model: some layers alone, one tensor
 * in another form, products alone.
 *
 * Tokens go to the end of sequence 0, at most lb_context_n_batch at a time. Products alone and
 * threads are the CPU's sessions'; layers, logits and tensors in another form also those that one
 * device computes alone (lb_context_can_part). */
#ifndef LB_MODEL_PARTIAL_H
#define LB_MODEL_PARTIAL_H

#include "model/model.h"

/* A weight, or one half of it, whose rows are taken from elsewhere. */
typedef struct lb_swap {
    const lb_mweight *from;
    lb_mweight to;
} lb_swap;

/* LB_E_UNSUPPORTED: what a session on devices cannot do of it. */
lb_status lb_context_can_part(const lb_context *c, lb_err *err);
/* States of n tokens behind layer end - 1: x [n, n_embd] holds those before layer first (first 0:
 * it is only written). Keys and values of these layers go to the cache. */
lb_status lb_context_layers(lb_context *c, u32 n, const u32 *ids, u32 first, u32 end, float *x,
                            lb_err *err);
/* Logits [n, n_vocab] of states behind the last layer. */
lb_status lb_context_head(lb_context *c, u32 n, const float *x, float *logits, lb_err *err);
/* out [n, rows of a matrix of w] = that matrix times rows of x [n, n_cols]. */
lb_status lb_context_product(lb_context *c, const lb_mweight *w, u32 matrix, const float *x, u32 n,
                             float *out, lb_err *err);
/* Rows of w were read where they are mapped (lb_mat_row): where weights do not fit the memory,
 * their pages are given back. */
void lb_context_let_go(lb_context *c, const lb_mweight *w);
/* From now on mats stand for those of w (a tensor of the model), as many and of the same shapes;
 * they must stay. w NULL: all as it is. One tensor at a time. LB_E_NOMEM. */
lb_status lb_context_swap(lb_context *c, const lb_mweight *w, const lb_mat *mats, lb_err *err);

/* The tensor in the graph that makes the logits: its own, or the table of embeddings. */
const lb_mweight *lb_model_head(const lb_model *m);
const lb_mweight *lb_model_embeddings(const lb_model *m);
/* Some layers read keys of earlier ones: layers alone are then of no use. */
bool lb_model_shares_keys(const lb_model *m);

/* Of logits that the host should have at a time: enough for a batch, of a device for a large one.
 */
u64 lb_context_rows_bytes(const lb_context *c);

/* Items on the session's threads, one after the other; scratch: of a thread, scratch_bytes of
 * lb_context_opts at least. Of a session on devices the threads begin when they are needed first;
 * where they do not, the caller's does all. */
void lb_context_each(lb_context *c, u64 n_items, void (*fn)(void *ctx, u64 item, void *scratch),
                     void *ctx);

/* ---- within model/ ---- */

/* The weight, or what stands in its place now. */
const lb_mweight *lb_swapped(const struct lb_context *c, const lb_mweight *w);
/* Before the first batch: where weights are read is decided. LB_E_LIMIT: they do not fit. */
lb_status lb_context_begin(struct lb_context *c, lb_err *err);
/* Weights of a unit (stream.h) are in memory, until lb_drop_unit; one at a time. Nothing where all
 * are where they are mapped. LB_E_IO. */
lb_status lb_hold_unit(struct lb_context *c, u32 unit, lb_err *err);
void lb_drop_unit(struct lb_context *c);
lb_status lb_context_check(const struct lb_context *c, const lb_batch *b, lb_err *err);
/* Positions of the next c->n tokens of a batch, from its token `first` on, and room for them. */
lb_status lb_context_place(struct lb_context *c, const lb_batch *b, u32 first, lb_err *err);

#endif
