/* SPDX-License-Identifier: Apache-2.0 */
/* words.h: WordPiece and WordLevel: one pre-token -> ids, by looking it up, whole or in the longest
 * parts. Semantics: tokenizers 0.23. */
#ifndef LB_TEXT_WORDS_H
#define LB_TEXT_WORDS_H

#include "base/base.h"
#include "base/mem.h"
#include "text/hf_tok.h"

typedef struct lb_words {
    const lb_hf_tok *tok; /* not owned */
    u32 unk;              /* UINT32_MAX: none */
    lb_str prefix;        /* of parts that do not begin a word */
    u64 chars_max;        /* longer words are unknown */
    size_t longest;       /* bytes of the longest token */
} lb_words;

lb_status lb_words_init(lb_words *w, const lb_hf_tok *tok, lb_err *err);
/* Appends the ids (u32 each). scratch: of the caller's. LB_E_FORMAT: an unknown word, and no token
 * for it. */
lb_status lb_words_encode(const lb_words *w, lb_buf *scratch, lb_str word, lb_buf *ids,
                          lb_err *err);

#endif
