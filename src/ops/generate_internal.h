/* SPDX-License-Identifier: Apache-2.0 */
/* generate_internal.h: one answer while it is made, wherever its logits come from. */
#ifndef LB_OPS_GENERATE_INTERNAL_H
#define LB_OPS_GENERATE_INTERNAL_H

#include "ops/generate.h"

typedef struct lb_running {
    const lb_generate_opts *o;
    lb_generated
        *out; /* its `sequence` has every token that was chosen but the one that ended it */
    lb_answer *answer;
    u32 n_chosen;
    bool over; /* no more tokens are wanted */
} lb_running;

/* out starts empty; the sampler gets the prompt. lb_running_end in any case. LB_E_FORMAT: ids
 * beyond the vocabulary. */
lb_status lb_running_begin(lb_running *r, const u32 *prompt, u32 n, u32 n_vocab, lb_err *err);
/* The next token, from the logits behind the last; r->over: it is none of the sequence, or no token
 * is wanted behind it (then *put says whether it is one of the sequence). */
lb_status lb_running_take(lb_running *r, const float *logits, u32 *id, bool *put, lb_err *err);
/* Whether a full context can go on, where that is wanted. */
lb_status lb_running_check(const lb_running *r, const lb_context *c, lb_err *err);
/* Room for what the context has not read of the sequence: where it is full, by a shift. *full:
 * there is none. */
lb_status lb_running_room(lb_running *r, lb_context *c, u32 seq, bool *full, lb_err *err);
/* What is certain by then is given out also when something failed. */
lb_status lb_running_end(lb_running *r, lb_status st, lb_err *err);

#endif
