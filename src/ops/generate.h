/* SPDX-License-Identifier: Apache-2.0 */
/* generate.h: tokens after a prompt: one after the other, until one that ends an answer. */
#ifndef LB_OPS_GENERATE_H
#define LB_OPS_GENERATE_H

#include "model/model.h"
#include "model/sample.h"
#include "text/encode.h"

typedef struct lb_generate_opts {
    u32 n_max;                 /* tokens; the context's end ends it too */
    lb_sampler *sampler;       /* of this sequence */
    const lb_encoder *encoder; /* for text and for tokens that end; NULL: neither */
    bool ignore_end;
    /* Text as it becomes certain; may be NULL. */
    lb_status (*text)(void *user, lb_str piece, lb_err *err);
    bool (*stop)(void *user); /* asked between tokens: true ends it as if n_max were reached */
    void *user;
} lb_generate_opts;

typedef struct lb_generated {
    lb_buf ids;   /* u32 each; without the token that ended it */
    lb_buf text;  /* of these, special tokens left out */
    bool stopped; /* by a token that ends; else by length */
    u64 prompt_us, generate_us;
    u32 n_prompt_computed; /* tokens of the prompt that were not there from before */
} lb_generated;

/* Sequence 0 is made to hold the prompt (what it begins with already is kept), then goes on.
 * LB_E_LIMIT: the prompt does not fit the context; LB_E_USAGE: it is empty. */
lb_status lb_generate(lb_context *c, const u32 *prompt, u32 n, const lb_generate_opts *o,
                      lb_generated *out, lb_err *err);
void lb_generated_deinit(lb_generated *g);

#endif
