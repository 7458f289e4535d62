/* SPDX-License-Identifier: Apache-2.0 */
/* thought.h: an answer of a model that reasons first, taken apart while it comes: <think> what it
 * thinks </think> what it says. */
#ifndef LB_CLI_THOUGHT_H
#define LB_CLI_THOUGHT_H

#include "base/base.h"
#include "base/mem.h"
#include "text/encode.h"

typedef struct lb_thought {
    lb_buf text, said; /* all so far; the answer proper */
    lb_buf thought;    /* what stood between the marks */
    size_t taken;      /* bytes of text that have gone to one of the two */
    u32 mark;          /* index of the pair of marks */
    u8 state;
    bool any; /* there were marks */
} lb_thought;

typedef lb_status lb_thought_show(void *user, bool thinking, lb_str piece, lb_err *err);

/* Appends the ids (u32) of special tokens that are marks: their texts have to be in what is put. */
lb_status lb_thought_tokens(const lb_encoder *e, lb_buf *ids, lb_err *err);

/* prompt: what the model has read: where it ends with an opening mark, the answer begins behind
 * that. */
void lb_thought_begin(lb_thought *t, lb_str prompt);
/* The next piece; what can be told of it goes to show (may be NULL). last: no more comes. */
lb_status lb_thought_put(lb_thought *t, lb_str piece, bool last, lb_thought_show *show, void *user,
                         lb_err *err);
void lb_thought_deinit(lb_thought *t);

#endif
