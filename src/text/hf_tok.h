/* SPDX-License-Identifier: Apache-2.0 */
/* hf_tok.h: a tokenizer.json in memory: its vocabulary and merges as arrays, the rest as a small
 * tree.
 *
 * The two large members (model.vocab, model.merges) are read by the pull reader straight into
 * arrays; strings without escapes stay views of the file's text, which the caller keeps. Ids of
 * added tokens are given as the tokenizers library gives them (the file's number does not count
 * where the model's vocabulary knows the text). */
#ifndef LB_TEXT_HF_TOK_H
#define LB_TEXT_HF_TOK_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"

typedef enum lb_hf_kind { LB_HF_BPE, LB_HF_UNIGRAM, LB_HF_WORDPIECE, LB_HF_WORDLEVEL } lb_hf_kind;

typedef struct lb_hf_added {
    lb_str content;
    u32 id;        /* as the tokenizers library numbers it */
    u64 file_id;   /* as written; UINT64_MAX: no id, or one that is no small integer */
    bool in_vocab; /* the model's vocabulary has this text too */
    bool single_word, lstrip, rstrip, normalized, special;
} lb_hf_added;

typedef struct lb_hf_tok {
    lb_hf_kind kind;
    lb_str *token; /* [n_ids] model.vocab by id; ptr NULL: a hole */
    float *score;  /* [n_ids] Unigram; else NULL */
    u64 n_ids;     /* largest id of model.vocab + 1 */
    u64 n_vocab;   /* entries of model.vocab */
    lb_map id_of;  /* model.vocab: text -> id */
    lb_str *merge; /* [2 * n_merges] left, right */
    u64 n_merges;
    bool merge_pairs;     /* written as lists of two (else "left right") */
    lb_json *rest;        /* the file with model.vocab and model.merges emptied */
    const lb_json *model; /* rest.model; never NULL */
    lb_hf_added *added;   /* in the order of the file, without those that the library ignores */
    u64 n_added, cap_added, next_added; /* next: 1 + the largest id in added */
    lb_map added_of;                    /* text -> index in added */
    lb_str vocab_text, merges_text;     /* where they stand in the file; empty: absent */
} lb_hf_tok;

/* text must outlive t; what is made lives in arena. what names the file in messages.
 * LB_E_FORMAT (offset in the file), LB_E_LIMIT, LB_E_NOMEM, LB_E_UNSUPPORTED (a model kind not
 * known). */
lb_status lb_hf_tok_parse(lb_hf_tok *t, lb_str text, const char *what, lb_arena *arena,
                          lb_err *err);
/* The same without the arrays (token, merge, id_of, added stay empty): the counts and the tree. */
lb_status lb_hf_tok_parse_rest(lb_hf_tok *t, lb_str text, const char *what, lb_arena *arena,
                               lb_err *err);
void lb_hf_tok_deinit(lb_hf_tok *t); /* the maps; the rest is the arena's */

/* Adds a token as the library's add_tokens does; one that is there already is left as it is. */
lb_status lb_hf_tok_add(lb_hf_tok *t, const lb_hf_added *token, lb_arena *arena, lb_err *err);
/* Added tokens first, then the model's vocabulary. */
bool lb_hf_tok_id(const lb_hf_tok *t, lb_str text, u32 *id);
/* 1 + the largest id of all. */
u64 lb_hf_tok_n_all(const lb_hf_tok *t);

#endif
