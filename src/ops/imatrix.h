/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix.h: an importance matrix of a model that runs: of the input of every matrix of its layers
 * the sum of squares of each column, over the tokens of a text.
 *
 * As llama-imatrix measures it (tools/imatrix/imatrix.cpp of llama-cpp-python 0.3.36): chunks of
 * n_ctx tokens, the first of each replaced by bos where the model begins with one; tensors of
 * layers ("blk."), "output.weight" on request, under GGUF's names whatever the model is stored as;
 * a count of tokens for each expert, one for the matrices of other stacks. Sums are taken in
 * double, token after token, so the result depends neither on threads nor on the batch.
 *
 * Of layers on a device the device adds up the squares of a chunk (lb_context_opts.sums), in f32
 * and in its order: sums that are the CPU's but for rounding. */
#ifndef LB_OPS_IMATRIX_H
#define LB_OPS_IMATRIX_H

#include "model/model.h"
#include "ops/imatrix_sums.h"

/* Products of a few tokens, alone or left over behind a block of them, may take another order of
 * sums: a chunk is computed in parts of whole units, but for the last one, which has one unit at
 * least. Sessions' batches are to be that large. */
#define LB_IMATRIX_UNIT 64
#define LB_IMATRIX_BATCH_MIN (2 * LB_IMATRIX_UNIT - 1)
/* Tokens of the next part of `left`, of which n_batch may be computed at a time. */
u32 lb_imatrix_part(u32 n_batch, u32 left);

typedef struct lb_imatrix_tap lb_imatrix_tap;

/* Adds to set, whose entries (of earlier runs) must be of this model: LB_E_FORMAT names one that is
 * not. */
lb_status lb_imatrix_tap_new(lb_imatrix_tap **out, const lb_mweights *weights, lb_imatrix_set *set,
                             bool output, lb_err *err);
void lb_imatrix_tap_free(lb_imatrix_tap **t);
/* lb_context_opts.tap, with the tap as its user. What comes before a run is not taken. */
lb_tap_fn lb_imatrix_tap_take;

typedef struct lb_imatrix_opts {
    u32 n_ctx;
    u64 first_chunk, n_chunks_max; /* 0: all */
    u32 bos;                       /* LB_NO_INDEX: none */
    bool perplexity;               /* of the chunks' second halves */
    bool output;                   /* the head's input is measured: it must be computed */
    u64 save_every;                /* chunks; 0: never */
    lb_status (*save)(void *user, u64 chunk, lb_err *err);
    void (*progress)(void *user, u64 done, u64 total); /* tokens; may be NULL */
    void *user;
} lb_imatrix_opts;

typedef struct lb_imatrix_result {
    u64 n_chunks, n_scored;
    double nll, nll2; /* sums over the scored tokens */
} lb_imatrix_result;

/* Chunks that it would read; 0: the text is too short. */
u64 lb_imatrix_n_chunks(u64 n_tokens, const lb_imatrix_opts *o);
/* c has the tap. LB_E_USAGE: a text of fewer than two chunks, as there; LB_E_FORMAT: a tensor whose
 * input is not finite. */
lb_status lb_imatrix_run(lb_context *c, lb_imatrix_tap *t, const u32 *ids, u64 n,
                         const lb_imatrix_opts *o, lb_imatrix_result *out, lb_err *err);

#endif
