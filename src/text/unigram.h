/* SPDX-License-Identifier: Apache-2.0 */
/* unigram.h: a Unigram model: one pre-token -> the ids of its best path.
 *
 * Built from a parsed tokenizer.json (whose vocabulary it borrows), then read-only and shared.
 * Semantics of the tokenizers library: scores add up in double, the first of equal paths wins, a
 * character without a token costs ten below the least score, unknown characters that follow each
 * other are one (and bytes where there are byte tokens). Time: the bytes of a text times the length
 * of the tokens that match. */
#ifndef LB_TEXT_UNIGRAM_H
#define LB_TEXT_UNIGRAM_H

#include "base/base.h"
#include "base/mem.h"
#include "text/hf_tok.h"

typedef struct lb_unigram {
    const lb_hf_tok *tok;      /* not owned */
    struct lb_trie_node *node; /* [n_nodes] children of a node are neighbours; 0: the root */
    u64 n_nodes;
    u32 root[256]; /* child of the root for a byte; 0: none */
    double unk_score;
    u32 unk; /* UINT32_MAX: none */
    bool byte_fallback;
    u32 byte_token[256];
} lb_unigram;

typedef struct lb_unigram_work {
    lb_buf best, path; /* zero-initialised: empty */
} lb_unigram_work;

/* LB_E_LIMIT: more than 2^32 bytes of tokens. */
lb_status lb_unigram_init(lb_unigram *u, const lb_hf_tok *tok, lb_err *err);
void lb_unigram_deinit(lb_unigram *u);
/* Appends the ids (u32 each). LB_E_FORMAT: an unknown character, and no unknown token. */
lb_status lb_unigram_encode(const lb_unigram *u, lb_unigram_work *w, lb_str text, lb_buf *ids,
                            lb_err *err);
void lb_unigram_work_deinit(lb_unigram_work *w);
/* As lb_bpe_cuts_at: no token has the mark behind another character. */
bool lb_unigram_cuts_at(const lb_unigram *u, lb_str mark);

#endif
