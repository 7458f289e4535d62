/* SPDX-License-Identifier: Apache-2.0 */
/* hf_write.h: a tokenizer.json from a skeleton, a vocabulary and merges.
 *
 * A skeleton is a tokenizer.json whose model.vocab and model.merges hold only their first two
 * entries: from them the writer learns how entries are set (indents, separators, merges as strings
 * or lists), so that a file of any style comes back byte by byte. A vocabulary is an object
 * {text: id}, or with scores (Unigram) a list of [text, score]. */
#ifndef LB_TEXT_HF_WRITE_H
#define LB_TEXT_HF_WRITE_H

#include "base/base.h"
#include "base/mem.h"
#include "base/texts.h"
#include "io/out.h"

/* Merges one after the other. next NULL: none. */
typedef struct lb_hf_merges {
    /* *more = false behind the last; pair is good until the next call. */
    lb_status (*next)(void *ctx, lb_str pair[2], bool *more, lb_err *err);
    void *ctx;
} lb_hf_merges;

typedef struct lb_hf_parts {
    lb_str skeleton;
    bool ascii;            /* non-ASCII characters as \u escapes */
    const lb_texts *token; /* by id; left out: not in model.vocab */
    const float *score;    /* [token->n]: model.vocab is a list, without a hole; NULL: an object */
    lb_hf_merges merges;
    /* for hf_take.h, which goes by numbers where it can; all may be NULL */
    const lb_texts_index *id_of; /* of token; may have texts more that no entry has */
    const u32 *merge_id; /* [3 * n_merge_ids] left, right, joined in place of merges; UINT32_MAX, or
                            an id that token leaves out: the merge leads nowhere */
    u64 n_merge_ids;
    const struct lb_tok_cuts *cuts; /* tok_cuts.h: what merges gives */
} lb_hf_parts;

/* Where the parts go: into a file (lb_hf_write), or a tokenizer in memory. They are the caller's.
 */
typedef lb_status lb_hf_put(void *ctx, const lb_hf_parts *p, lb_err *err);

/* Appends the file. LB_E_FORMAT: the skeleton is none; failures of out are its own. */
lb_status lb_hf_write(const lb_hf_parts *p, lb_out *out, lb_err *err);

#endif
