/* SPDX-License-Identifier: Apache-2.0 */
/* hf_encode.h: text -> ids with a tokenizer.json, as the tokenizers library does it.
 *
 * added tokens, normalizer, pre-tokenizer, model (BPE, Unigram, WordPiece, WordLevel),
 * post-processor. Read-only after lb_hf_enc_init: threads share it, each with a work of its own. */
#ifndef LB_TEXT_HF_ENCODE_H
#define LB_TEXT_HF_ENCODE_H

#include "base/base.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/hf_tok.h"
#include "text/norm.h"
#include "text/pretok.h"
#include "text/unigram.h"
#include "text/words.h"

/* Added tokens as patterns, sorted bytewise: the longest match at a place is found by narrowing. */
typedef struct lb_added_set {
    struct lb_added_pattern {
        lb_str text;
        u32 index; /* in tok->added */
    } * v;
    u64 n;
    u8 begins[32]; /* bit b: a pattern begins with byte b */
} lb_added_set;

typedef struct lb_hf_enc {
    const lb_hf_tok *tok; /* not owned */
    lb_arena arena;
    lb_norm *norm;
    lb_pretok *pretok;
    lb_bpe bpe; /* the one of tok->kind */
    lb_unigram unigram;
    lb_words words;
    bool raw_bytes; /* pre-tokens come before they are written in the byte alphabet */
    lb_str cut;     /* not empty: a text without pre-tokens is cut before each of these */
    lb_added_set raw, normalized; /* matched before and after the normalizer */
    lb_buf before, after;         /* u32 ids that the post-processor puts around one text */
} lb_hf_enc;

/* LB_E_UNSUPPORTED: a step that is not known here (the message names it). */
lb_status lb_hf_enc_init(lb_hf_enc *e, const lb_hf_tok *tok, lb_err *err);
void lb_hf_enc_deinit(lb_hf_enc *e);

/* What encoding needs beside: buffers, and ids of words that came before. One thread's at a time.
 */
typedef struct lb_hf_work lb_hf_work;
lb_hf_work *lb_hf_work_new(const lb_hf_enc *e); /* NULL: out of memory */
void lb_hf_work_free(lb_hf_work **w);

enum {
    LB_HF_ADD = 1,  /* with what the post-processor adds */
    LB_HF_PLAIN = 2 /* texts of special tokens are text as any other */
};

/* Appends ids (u32 each) of a valid UTF-8 text. */
lb_status lb_hf_encode_flags(lb_hf_work *w, lb_str text, u32 flags, lb_buf *ids, lb_err *err);
/* The same, once. special: LB_HF_ADD. */
lb_status lb_hf_encode(const lb_hf_enc *e, lb_str text, bool special, lb_buf *ids, lb_err *err);

#endif
