/* SPDX-License-Identifier: Apache-2.0 */
/* hf_write.h: a tokenizer.json from a skeleton, a vocabulary and merges.
 *
 * A skeleton is a tokenizer.json whose model.vocab and model.merges hold only their first two
 * entries: from them the writer learns how entries are set (indents, separators, merges as strings
 * or lists), so that a file of any style comes back byte by byte. */
#ifndef LB_TEXT_HF_WRITE_H
#define LB_TEXT_HF_WRITE_H

#include "base/base.h"
#include "base/mem.h"
#include "text/hf_tok.h"

typedef struct lb_hf_parts {
    lb_str skeleton;
    bool ascii;          /* non-ASCII characters as \u escapes */
    const lb_str *token; /* [n_ids]; ptr NULL: not in model.vocab */
    u64 n_ids;
    const lb_str *merge; /* [2 * n_merges] */
    u64 n_merges;
} lb_hf_parts;

/* Takes the text piece by piece; false ends the writing (LB_OK is returned). */
typedef struct lb_hf_sink {
    bool (*put)(void *ctx, lb_str text);
    void *ctx;
} lb_hf_sink;

/* LB_E_FORMAT: the skeleton is none. */
lb_status lb_hf_write(const lb_hf_parts *p, const lb_hf_sink *sink, lb_err *err);

/* The skeleton of a parsed file, in arena. */
lb_status lb_hf_skeleton(const lb_hf_tok *t, lb_str text, lb_arena *arena, lb_str *out,
                         lb_err *err);

#endif
