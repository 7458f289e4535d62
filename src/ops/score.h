/* SPDX-License-Identifier: Apache-2.0 */
/* score.h: what a model thinks of a text that is there: log-probabilities of its tokens, the most
 * likely ones at each place, perplexity. All sums in double, exact logits, no rounding on the way.
 */
#ifndef LB_OPS_SCORE_H
#define LB_OPS_SCORE_H

#include "model/logprob.h"
#include "model/model.h"

typedef struct lb_score_opts {
    u32 n_top;       /* so many of the most likely after each token, the first of equals first */
    double *logprob; /* [n]; [i], i > 0: of ids[i] after those before it; [0] is left alone */
    lb_token_logprob *top; /* [n, n_top]: after reading ids[0..i] */
} lb_score_opts;

/* Reads n tokens as sequence 0 from its beginning (what it held is forgotten). LB_E_LIMIT: more
 * tokens than the session's context; LB_E_FORMAT: an id that there is not. */
lb_status lb_score(lb_context *c, const u32 *ids, u32 n, const lb_score_opts *o, lb_err *err);

/* Perplexity as llama-perplexity measures it: the text's tokens in chunks of n_ctx, the first of a
 * chunk replaced by bos where the model begins with one, the second half of each scored. */
typedef struct lb_perplexity {
    u64 n_tokens;     /* scored */
    double nll, nll2; /* sums of the negative log-probability and of its square */
    u64 n_chunks;
} lb_perplexity;
typedef struct lb_perplexity_opts {
    u32 n_ctx, n_chunks_max; /* 0: all */
    u32 bos;                 /* LB_NO_INDEX: none */
    /* Called with each chunk's rows of logits, [n_rows, n_vocab], rows of tokens first, first
     * + 1... of the chunk; may be NULL. */
    lb_status (*row)(void *user, u64 chunk, u32 first, u32 n_rows, const u32 *ids,
                     const float *logits, lb_err *err);
    void (*progress)(void *user, u64 done, u64 total); /* tokens; may be NULL */
    void *user;
} lb_perplexity_opts;
/* LB_E_USAGE: the text has fewer than two chunks' tokens, as there. */
lb_status lb_perplexity_run(lb_context *c, const u32 *ids, u64 n, const lb_perplexity_opts *o,
                            lb_perplexity *out, lb_err *err);
double lb_perplexity_value(const lb_perplexity *p);
double lb_perplexity_stderr(const lb_perplexity *p);

#endif
