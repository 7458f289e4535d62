/* SPDX-License-Identifier: Apache-2.0 */
/* model.h: a model that runs: tokens in, logits out.
 *
 * lb_model is the model's graph over its weights, read-only and shared. lb_context is a session:
 * the keys and values of its sequences, threads, buffers; all that it needs is allocated when it is
 * made (pages of the cache, when they are first used). Weights are read where they are mapped. */
#ifndef LB_MODEL_MODEL_H
#define LB_MODEL_MODEL_H

#include "arch/arch.h"
#include "kernel/matmul.h"
#include "model/sample.h"
#include "model/stream.h"
#include "model/weights.h"

typedef struct lb_model lb_model;
typedef struct lb_context lb_context;
struct lb_resident;

typedef struct lb_model_in {
    const lb_arch *arch;
    const lb_gguf_meta *meta;   /* at least <arch>.* */
    const lb_mweights *weights; /* these four outlive the model */
    const lb_kernels *kernels;
} lb_model_in;

/* LB_E_UNSUPPORTED: what of it cannot be run; LB_E_FORMAT: tensors that are missing or of another
 * shape than the metadata say. */
lb_status lb_model_new(lb_model **out, const lb_model_in *in, lb_err *err);
void lb_model_free(lb_model **m);
u32 lb_model_n_vocab(const lb_model *m);
const lb_kernels *lb_model_kernels(const lb_model *m);
u32 lb_model_n_ctx_train(const lb_model *m); /* 0: not known */
u32 lb_model_n_layers(const lb_model *m);
u32 lb_model_n_embd(const lb_model *m);
bool lb_model_is_recurrent(const lb_model *m); /* some layer keeps a state: no going back */
/* Bytes of weights that one token reads. */
u64 lb_model_token_bytes(const lb_model *m);

/* What the process may hold; of sessions whose first batch is still to come. */
void lb_model_limit(const lb_model *m, const lb_stream_limit *l);
const lb_stream *lb_model_stream(const lb_model *m);

/* Called with the input of each product of a matrix: n_tokens rows of n_cols f32, stride floats
 * apart. expert: of a stack; else LB_NO_INDEX. From one thread. */
typedef void lb_tap_fn(void *user, const lb_mweight *w, u32 expert, const float *x, size_t n_tokens,
                       size_t stride);

/* Called with what a device has added up: of each column of the input of a product's matrix the sum
 * of squares [n_cols] over n_tokens; expert as above. */
typedef void lb_sums_fn(void *user, const lb_mweight *w, u32 expert, const float *sums,
                        u64 n_tokens);

/* Called with what goes into a layer: n_tokens rows of the embedding's length, as they are before
 * its first norm. From one thread. */
typedef void lb_layer_fn(void *user, u32 layer, const float *x, size_t n_tokens);

/* Called with what a device turned out not to be able to do, and what is done instead: one line.
 * From the thread that evaluates. */
typedef void lb_warn_fn(void *user, const char *text);

/* Whether keys and values are rotated before they are stored (cache.h). */
typedef enum lb_kv_rotate {
    LB_KV_ROTATE_AUTO, /* where their type is quantized */
    LB_KV_ROTATE_ON,
    LB_KV_ROTATE_OFF
} lb_kv_rotate;

typedef struct lb_context_opts {
    u32 n_ctx;        /* positions of each sequence */
    u32 n_seqs;       /* 0: 1 */
    u32 n_batch;      /* tokens that are computed at a time; 0: 256, on a device 2048 or 4096 */
    u32 threads;      /* 0: 1 */
    lb_dtype kv_type; /* F32, F16, Q8_0, Q4_0 */
    lb_kv_rotate kv_rotate;
    lb_act_mode acts; /* on a device: LB_ACTS_EXACT as asked, LB_ACTS_AUTO as it has it */
    lb_tap_fn *tap;   /* may be NULL */
    void *tap_user;
    bool sums; /* products on a device add up squares (lb_context_take_sums); tap has the CPU's */
    lb_layer_fn *on_layer; /* may be NULL */
    void *layer_user;
    /* Of a session on a device: kernels of prompts and of sampling are tried before they are used
     * first, and the session goes on with others where one fails; NULL: they are not tried. */
    lb_warn_fn *warn;
    void *warn_user;
    u64 scratch_bytes;            /* of a thread at least: for matrices that will be swapped in */
    struct lb_resident *resident; /* of this model, on the device that computes; NULL: the CPU */
} lb_context_opts;

/* LB_E_UNSUPPORTED: what a device cannot do; LB_E_NOMEM, LB_E_LIMIT: memory. */
lb_status lb_context_new(lb_context **out, const lb_model *m, const lb_context_opts *o,
                         lb_err *err);
void lb_context_free(lb_context **c);
/* LB_E_LIMIT where a session like this one does not fit the model's limit (lb_model_limit): the
 * least that it does with. Computed; nothing of the session is made. */
lb_status lb_context_check_memory(const lb_model *m, const lb_context_opts *o, lb_err *err);

/* What such a session takes of the host's memory where the CPU computes, in bytes. */
lb_status lb_context_room(const lb_model *m, const lb_context_opts *o, u64 *kv, u64 *buffers,
                          lb_err *err);

/* Tokens that go to the ends of their sequences; those of one sequence are neighbours. */
typedef struct lb_batch {
    u32 n;
    const u32 *id;  /* [n] */
    const u32 *seq; /* [n]; NULL: all of sequence 0 */
    const u8 *want; /* [n] logits are wanted after this token; NULL: after the last */
} lb_batch;

/* logits: a row of n_vocab for each token that wants them, in order. A batch longer than n_batch is
 * computed in parts. stop (may be NULL) is asked between parts. LB_E_LIMIT: the context is full;
 * LB_E_USAGE: an id or a sequence that there is not. */
lb_status lb_context_eval(lb_context *c, const lb_batch *b, float *logits, lb_err *err);
/* Memory of the session [n_vocab], to be given to lb_context_eval as logits where one row is
 * wanted: on a GPU they come to it anyway, and elsewhere by a copy. NULL: there is none. */
float *lb_context_row(const lb_context *c);

/* What has been added up on devices since the last time, which then is 0 again; fn NULL: nobody
 * wants it. Nothing without o.sums or without a device. */
lb_status lb_context_take_sums(lb_context *c, lb_sums_fn *fn, void *user, lb_err *err);

/* The same for the batch's last token (b->want: NULL) where a device computes and the sampler does
 * not need all logits (can_choose says so of its need): what it needs, until the next call. */
bool lb_context_can_choose(const lb_context *c, const lb_sample_need *need);
lb_status lb_context_eval_top(lb_context *c, const lb_batch *b, const lb_sample_need *need,
                              lb_candidates *out, lb_err *err);

const lb_model *lb_context_model(const lb_context *c);
u32 lb_context_n_ctx(const lb_context *c);
u32 lb_context_n_batch(const lb_context *c); /* at most what was asked for */
/* Keeps of a sequence what it has in common with the beginning of n tokens, where it can go back to
 * there (else to the mark, if that is before), and forgets the rest. How many are kept. */
u32 lb_context_keep(lb_context *c, u32 seq, const u32 *ids, u32 n);
u32 lb_context_length(const lb_context *c, u32 seq);
const u32 *lb_context_ids(const lb_context *c, u32 seq); /* [its length], until it changes */
/* Keeps what recurrent layers need to come back to where the sequence is now; nothing of a model
 * without them, which can go back to anywhere. */
lb_status lb_context_mark(lb_context *c, u32 seq, lb_err *err);
/* Forgets all but the first n tokens of a sequence. False: cannot go back to there. */
bool lb_context_cut(lb_context *c, u32 seq, u32 n);
/* Whether tokens can leave the middle of a sequence; LB_E_UNSUPPORTED: why not. */
lb_status lb_model_can_shift(const lb_model *m, lb_err *err);
lb_status lb_context_can_shift(const lb_context *c, lb_err *err);
/* Forgets `drop` tokens behind the first `keep`; those behind them move up to their positions. */
lb_status lb_context_shift(lb_context *c, u32 seq, u32 keep, u32 drop, lb_err *err);
/* The same for what makes the sequence begin like n tokens, where it does so but for a gap behind
 * the first of them: at least so many tokens behind it are then kept (LB_SHIFT_LEAST). What is not
 * found so stays as it is. *n_gone: tokens that have left. LB_E_NOMEM. */
#define LB_SHIFT_LEAST 16u
lb_status lb_context_close_gap(lb_context *c, u32 seq, const u32 *ids, u32 n, u32 *n_gone,
                               lb_err *err);
/* How many of n tokens the sequence begins with. */
u32 lb_context_common(const lb_context *c, u32 seq, const u32 *ids, u32 n);
/* `to` holds the first n tokens of `from`, whose pages they share. LB_E_UNSUPPORTED: recurrent
 * layers, and n is not all. */
lb_status lb_context_copy(lb_context *c, u32 from, u32 to, u32 n, lb_err *err);
u64 lb_context_cache_bytes(const lb_context *c);
u64 lb_context_rest_bytes(const lb_context *c); /* that it will ask for until it is full */

#endif
