/* SPDX-License-Identifier: Apache-2.0 */
/* generate_internal.h: one answer while it is made, and batches of what such answers read next. */
#ifndef LB_OPS_GENERATE_INTERNAL_H
#define LB_OPS_GENERATE_INTERNAL_H

#include "ops/generate.h"

typedef struct lb_running {
    const lb_generate_opts *o;
    lb_generated
        *out; /* its `sequence` has every token that was chosen but the one that ended it */
    lb_context *c;
    u32 seq; /* of the context and of the drafts */
    lb_answer *answer;
    u32 n_chosen;
    bool over;       /* no more tokens are wanted */
    u32 *guess;      /* [n_guess] of what follows the sequence, in the last batch */
    u32 n_guess;     /* 0: none */
    u32 n_guess_max; /* room in guess */
    lb_candidates candidates;
    bool chooses; /* the last batch gave candidates in place of logits */
} lb_running;

/* A batch: of each sequence what its context has not read, then a guess of what follows. */
typedef struct lb_unread {
    lb_buf ids, seqs, wants; /* u32, u32, u8 each */
} lb_unread;

/* out starts empty; the sampler gets the prompt. lb_running_end in any case. LB_E_FORMAT: ids
 * beyond the vocabulary; LB_E_USAGE, LB_E_LIMIT: there is no prompt, or no room for it; a full
 * context that cannot go on where that is wanted. */
lb_status lb_running_begin(lb_running *r, const u32 *prompt, u32 n, lb_err *err);
/* What is asked of the drafts: at most max tokens; ask->max 0: nothing. */
void lb_running_ask(lb_running *r, u32 max, lb_draft_ask *ask);
/* What the sequence has not read and the guess that ask has got (NULL: none); logits are wanted
 * behind the last token of the sequence and each of the guess. */
lb_status lb_running_add(lb_running *r, const lb_draft_ask *ask, lb_unread *b, lb_err *err);
/* The next tokens, from the logits behind the last and behind each token of the guess
 * ([n_guess + 1, n_vocab]), as if each had come alone, until one is not what was guessed. The
 * context then holds nothing of the guess but what became part of the sequence. r->over: no token
 * is wanted behind the last. */
lb_status lb_running_sample(lb_running *r, const float *logits, lb_err *err);
/* Room for what the context has not read of the sequence: where it is full, by a shift. *full:
 * there is none. */
lb_status lb_running_room(lb_running *r, bool *full, lb_err *err);
/* What is certain by then is given out also when something failed. */
lb_status lb_running_end(lb_running *r, lb_status st, lb_err *err);

void lb_unread_reset(lb_unread *b);
void lb_unread_deinit(lb_unread *b);
lb_status lb_unread_eval(const lb_unread *b, lb_context *c, float *logits, lb_err *err);

#endif
