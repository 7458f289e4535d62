/* SPDX-License-Identifier: Apache-2.0 */
/* hf_encode.h: text -> ids with a BPE tokenizer.json, as the tokenizers library does it.
 *
 * added tokens, normalizer, pre-tokenizer, merges, post-processor. Made for the check text that
 * names a pre-tokenizer; read-only after lb_hf_enc_init, so that inference can share it between
 * threads. */
#ifndef LB_TEXT_HF_ENCODE_H
#define LB_TEXT_HF_ENCODE_H

#include "base/base.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/hf_tok.h"
#include "text/norm.h"
#include "text/pretok.h"

/* Added tokens as patterns, sorted bytewise: the longest match at a place is found by narrowing. */
typedef struct lb_added_set {
    struct lb_added_pattern {
        lb_str text;
        u32 index; /* in tok->added */
    } * v;
    u64 n;
} lb_added_set;

typedef struct lb_hf_enc {
    const lb_hf_tok *tok; /* not owned */
    lb_arena arena;
    lb_norm *norm;
    lb_pretok *pretok;
    lb_bpe bpe;
    lb_added_set raw, normalized; /* matched before and after the normalizer */
    lb_buf before, after;         /* u32 ids that the post-processor puts around one text */
} lb_hf_enc;

/* LB_E_UNSUPPORTED: a step that is not known here (the message names it). */
lb_status lb_hf_enc_init(lb_hf_enc *e, const lb_hf_tok *tok, lb_err *err);
void lb_hf_enc_deinit(lb_hf_enc *e);

/* Appends ids (u32 each) of a valid UTF-8 text. special: with what the post-processor adds. */
lb_status lb_hf_encode(const lb_hf_enc *e, lb_str text, bool special, lb_buf *ids, lb_err *err);

#endif
