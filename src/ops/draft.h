/* SPDX-License-Identifier: Apache-2.0 */
/* draft.h: guesses of the next tokens of sequences, by a smaller model or from what stands in the
 * sequence already (prompt lookup: Saxena 2023). The smaller model reads the sequences that it is
 * asked about together, so that its weights too are read once for all. A guess costs little and
 * decides nothing: whoever generates samples each position from his own model's logits and drops
 * what he did not draw (Leviathan, Kalman, Matias 2023, with equality in place of their test, so
 * that a seed gives the same text with and without). */
#ifndef LB_OPS_DRAFT_H
#define LB_OPS_DRAFT_H

#include "model/model.h"
#include "text/encode.h"

#define LB_DRAFT_MAX 256u /* tokens of one guess */
#define LB_NGRAM_MAX 64u  /* tokens that are looked up */
#define LB_NGRAM_LEAST 2u /* ... at least */

typedef struct lb_draft_opts {
    u32 n_max;           /* tokens at a time: 1 to LB_DRAFT_MAX */
    u32 n_vocab;         /* of the model that is guessed for */
    u32 n_seqs;          /* that are guessed for; 0: one */
    u32 ngram;           /* the last so many tokens, or fewer, are looked up; 0: not */
    lb_context *context; /* a session of the smaller model, with as many sequences, all of which are
                            the draft's; NULL: none. Used where nothing was found */
    float min_p;         /* its guesses end where its own probability is below */
    const lb_kernels *kernels;
} lb_draft_opts;

typedef struct lb_draft lb_draft;

lb_status lb_draft_new(lb_draft **out, const lb_draft_opts *o, lb_err *err);
void lb_draft_free(lb_draft **d);
u32 lb_draft_n_max(const lb_draft *d);
/* Another text in a sequence; what was learned of the last one is forgotten. */
void lb_draft_begin(lb_draft *d, u32 seq);
/* What became of the last guess: the next are as long as pays. A guess that was right makes them
 * twice as long, one that was wrong as long as it was right, and one more. */
void lb_draft_learn(lb_draft *d, u32 seq, u32 n_guessed, u32 n_right);

typedef struct lb_draft_ask {
    u32 seq;
    const u32 *ids; /* [n] its text so far */
    u32 n, max;     /* tokens at most */
    u32 *out;       /* [max] that may follow */
    u32 n_out;      /* 0: no guess */
} lb_draft_ask;

/* Each sequence is asked about once. */
lb_status lb_draft_guess(lb_draft *d, lb_draft_ask *asks, u32 n_asks, lb_err *err);

/* Whether tokens of the one are tokens of the other, as llama.cpp decides it: as many of them but
 * for 128, each of the same text but for the first five, and the same token at the beginning.
 * LB_E_UNSUPPORTED names what differs. n_vocab: rows of the models' outputs. */
lb_status lb_draft_check_vocab(const lb_encoder *model, u32 n_vocab, const lb_encoder *draft,
                               u32 n_vocab_draft, lb_err *err);

#endif
