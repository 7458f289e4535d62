/* SPDX-License-Identifier: Apache-2.0 */
/* generate.h: tokens after a prompt: one after the other, until one that ends an answer. */
#ifndef LB_OPS_GENERATE_H
#define LB_OPS_GENERATE_H

#include "model/model.h"
#include "model/sample.h"
#include "ops/answer.h"
#include "ops/draft.h"

typedef struct lb_generate_opts {
    u32 n_max;                 /* tokens; the context's end ends it too */
    lb_sampler *sampler;       /* of this sequence */
    const lb_encoder *encoder; /* for text and for tokens that end; NULL: neither */
    bool ignore_end;           /* without a constraint */
    /* What may come: a mask before each sample. Its end is the answer's. NULL: anything. */
    lb_constraint *constraint;
    const lb_str *stops; /* texts that end the answer and are no part of it; need an encoder */
    u32 n_stops;
    const u32 *stop_ids; /* tokens that end it beside the encoder's */
    u32 n_stop_ids;
    const u32 *shown_ids; /* special tokens that are text here (answer.h) */
    u32 n_shown_ids;
    /* Guesses the next tokens, which are then read at once: the same answer in fewer steps. NULL:
     * none. */
    lb_draft *draft;
    /* All logits come back from a device, also where the sampler needs a few: the same answer. */
    bool all_logits;
    /* A full context is no end: half of the tokens behind the first n_keep (of the prompt at most)
     * leave it, as often as needed (lb_context_shift). */
    bool shift;
    u32 n_keep;
    /* Text as it becomes certain; may be NULL. */
    lb_status (*text)(void *user, lb_str piece, lb_err *err);
    bool (*stop)(void *user); /* asked between tokens: true ends it as if n_max were reached */
    void *user;
} lb_generate_opts;

typedef struct lb_generated {
    lb_buf ids;   /* u32 each; without the token that ended it */
    lb_buf text;  /* of these, special tokens left out, as is what stopped it and is behind that */
    bool stopped; /* by a token that ends, by a text, by the grammar; else by length */
    u64 prompt_us, generate_us;
    u32 n_prompt_computed; /* tokens of the prompt that were not there from before */
    /* The sequence at the end: what the context holds, and tokens that it has not read yet. */
    lb_buf sequence;
    u64 n_steps, n_drafted, n_accepted; /* evaluations behind the prompt; tokens of drafts */
    u64 n_shifts;
} lb_generated;

/* Sequence 0 is made to hold the prompt (what it begins with already is kept), then goes on.
 * LB_E_LIMIT: the prompt does not fit the context; LB_E_USAGE: it is empty. LB_E_NOT_FOUND: no
 * token may come. out is to be deinitialised in any case: it has what came before. */
lb_status lb_generate(lb_context *c, const u32 *prompt, u32 n, const lb_generate_opts *o,
                      lb_generated *out, lb_err *err);
void lb_generated_deinit(lb_generated *g);

#endif
