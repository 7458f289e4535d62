/* SPDX-License-Identifier: Apache-2.0 */
/* merge_vocab.h: the tokenizer of a merge: which files the result has, and the rows of tokens as
 * nodes. */
#ifndef LB_OPS_MERGE_VOCAB_H
#define LB_OPS_MERGE_VOCAB_H

#include "merge/vocab.h"
#include "ops/merge_view.h"

typedef struct lb_merge_tokens_in {
    const lb_merge_config *config;
    const lb_merge_view *views; /* [n_models] */
    lb_source *other;           /* the model that only tokenizer_source names, else NULL */
} lb_merge_tokens_in;

/* s: with its inputs, and the donor's sides, which are changed as the file's rules for tokens want
 * it. *v: n_ids 0 where there are none. notes: what to tell, one line each. */
lb_status lb_merge_tokens_make(lb_source *s, const lb_merge_tokens_in *in, lb_vocab *v,
                               lb_buf *notes, lb_err *err);
/* The chat template that the file wants. */
lb_status lb_merge_template_set(lb_source *s, const lb_merge_tokens_in *in, lb_err *err);

/* config.json of a model, or, of a GGUF, what of it says which ids special tokens have. */
lb_status lb_merge_ids_of(const lb_source *s, lb_arena *perm, lb_str *out, lb_err *err);

/* The inputs of a tensor of tokens: in[i].x becomes its rows for the tokens of the result,
 * in[i].dtype the type of work. */
lb_status lb_merge_tokens_align(const lb_vocab *v, const lb_merge_config *c,
                                const lb_merge_tensor *t, const lb_merge_job *j, lb_merge_input *in,
                                lb_err *err);
/* Shape of the result. */
lb_shape lb_merge_tokens_shape(const lb_vocab *v, const lb_merge_tensor *t, const lb_shape *shape);

#endif
