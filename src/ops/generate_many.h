/* SPDX-License-Identifier: Apache-2.0 */
/* generate_many.h: answers to many prompts, several at a time: each step reads one token of each
 * sequence (and a guess of what follows, where there are drafts), and the whole prompt of one that
 * begins, in one batch, so that the weights are read once for all. A sequence that is done makes
 * room for the next prompt at once. What an answer is does not depend on the others. */
#ifndef LB_OPS_GENERATE_MANY_H
#define LB_OPS_GENERATE_MANY_H

#include "ops/generate.h"

typedef struct lb_many_item {
    const u32 *prompt;
    u32 n;
    lb_generate_opts o; /* its draft is lb_many_opts' */
} lb_many_item;

typedef struct lb_many_opts {
    u64 n_items;
    u32 n_seqs;      /* at a time: the context has so many */
    lb_draft *draft; /* of as many sequences; NULL: none */
    /* In order of items. What it fills in lives until `end`. */
    lb_status (*begin)(void *user, u64 item, u32 seq, lb_many_item *out, lb_err *err);
    /* As answers are done; g is taken back afterwards. Also where one failed (`ok` false). */
    lb_status (*end)(void *user, u64 item, u32 seq, const lb_generated *g, bool ok, lb_err *err);
    void *user;
} lb_many_opts;

typedef struct lb_many_result {
    u64 n_tokens, n_prompt, n_prompt_computed, n_steps, n_drafted, n_accepted, us;
} lb_many_result;

/* Errors as lb_generate's; the first one ends all. */
lb_status lb_generate_many(lb_context *c, const lb_many_opts *o, lb_many_result *r, lb_err *err);

#endif
