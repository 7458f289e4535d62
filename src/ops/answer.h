/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h: the text of an answer while its tokens come: given out as soon as it is certain, which
 * is when characters are whole and no text that stops the answer can begin in it any more. */
#ifndef LB_OPS_ANSWER_H
#define LB_OPS_ANSWER_H

#include "text/constraint.h"
#include "text/encode.h"

typedef struct lb_answer_opts {
    const lb_encoder *encoder;
    /* NULL: the tokens are decoded. Else the text is the one that the grammar has seen, to the byte
     * (a decoder drops the blank that a text of SentencePiece begins with). */
    const lb_constraint *constraint;
    const lb_str *stops; /* texts that end the answer and are no part of it; not empty ones */
    u32 n_stops;
    const u32 *shown_ids; /* special tokens whose text is a part of it all the same */
    u32 n_shown_ids;
    lb_status (*text)(void *user, lb_str piece, lb_err *err); /* what is certain; may be NULL */
    void *user;
} lb_answer_opts;

typedef struct lb_answer lb_answer;

/* o's members outlive it. */
lb_status lb_answer_begin(lb_answer **out, const lb_answer_opts *o, lb_err *err);
/* *stopped: one of the texts that stop has come; nothing is to be put behind it. */
lb_status lb_answer_put(lb_answer *a, u32 id, bool *stopped, lb_err *err);
/* No more tokens: the rest is given out. *stopped as above: it may have come with the rest. */
lb_status lb_answer_end(lb_answer *a, bool *stopped, lb_err *err);
/* All of the text (what stops it cut off), the caller's from now on. */
lb_buf lb_answer_take(lb_answer *a);
void lb_answer_free(lb_answer **a);

#endif
