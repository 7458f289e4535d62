/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.h: the merges of a BPE model: one pre-token -> ids.
 *
 * Built from a parsed tokenizer.json (whose vocabulary it borrows), then read-only and shared by
 * threads; each caller brings its own work space. Semantics of the tokenizers library's BPE: lowest
 * rank first, leftmost first among equals; characters without an id become byte tokens
 * (byte_fallback), the unknown token, or nothing. */
#ifndef LB_TEXT_BPE_H
#define LB_TEXT_BPE_H

#include "base/base.h"
#include "base/mem.h"
#include "text/hf_tok.h"

#define LB_NO_TOKEN UINT32_MAX

typedef struct lb_bpe {
    const lb_hf_tok *tok; /* not owned */
    u32 *slots;           /* [cap] open addressing, (left, right) -> 1 + rank; 0: free */
    u32 *merged;          /* [n_merges] */
    u64 cap;
    u32 byte_token[256]; /* "<0xNN>" */
    u32 level[256];      /* the byte's character of the byte alphabet */
    u32 unk;
    bool byte_fallback, fuse_unk, ignore_merges;
    lb_str prefix, suffix; /* continuing_subword_prefix, end_of_word_suffix */
} lb_bpe;

typedef struct lb_bpe_work {
    lb_buf symbols, heap, text, level; /* zero-initialised: empty; lb_bpe_work_deinit frees */
} lb_bpe_work;

/* LB_E_FORMAT: a merge whose parts or result the vocabulary does not have. */
lb_status lb_bpe_init(lb_bpe *b, const lb_hf_tok *tok, lb_err *err);
void lb_bpe_deinit(lb_bpe *b);
/* Appends the ids (u32 each) of one pre-token. */
lb_status lb_bpe_encode(const lb_bpe *b, lb_bpe_work *w, lb_str word, lb_buf *ids, lb_err *err);
/* The same of a pre-token that is not yet written in the byte alphabet (bytelevel.h). */
lb_status lb_bpe_encode_bytes(const lb_bpe *b, lb_bpe_work *w, lb_str word, lb_buf *ids,
                              lb_err *err);
void lb_bpe_work_deinit(lb_bpe_work *w);
/* Whether no merge, and no token for a whole word, goes from another character to `mark`: a text
 * without pre-tokens can then be cut before each mark that follows another character. */
bool lb_bpe_cuts_at(const lb_bpe *b, lb_str mark);
/* Whether a mark stands behind another character. */
bool lb_has_mark_inside(lb_str text, lb_str mark);

#endif
