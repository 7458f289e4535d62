/* SPDX-License-Identifier: Apache-2.0 */
/* tok_rebuild.h: a tokenizer.json and its small companions from the arrays of a GGUF. Internal to
 * text/. */
#ifndef LB_TEXT_TOK_REBUILD_H
#define LB_TEXT_TOK_REBUILD_H

#include "base/texts.h"
#include "text/hf_write.h"
#include "text/tok_cuts.h"
#include "text/tokdata.h"

/* The arrays of a GGUF tokenizer, checked against each other. */
typedef struct lb_tok_arrays {
    const lb_gguf_meta *meta;
    lb_arena *arena;
    lb_str model, pre;     /* tokenizer.ggml.model; pre: "default" where there is none */
    const lb_texts *token; /* [n]; never empty; the meta's, or own */
    u8 *type;              /* [n] lb_spm_type; NORMAL where the GGUF has no types */
    u8 *whole;             /* [n] kept whole, of lb_tok_arrays_index; NULL: none */
    float *score;          /* [n]; 0 where the GGUF has none */
    u64 n;
    bool has_scores, flat_scores; /* flat: all one score in the GGUF; score holds places */
    const lb_gguf_kv *merges;     /* "left right" each; NULL: none */
    lb_texts own;                 /* memory of token where the meta's has an empty one */
    /* of lb_tok_arrays_index */
    lb_texts_index id_of; /* of token */
    u32 *merge_id;        /* [3 * merges->n] left, right, joined: ids, UINT32_MAX: no token; "gpt2",
                             "gemma4" */
} lb_tok_arrays;

/* LB_E_NOT_FOUND: no tokenizer; LB_E_FORMAT: lengths or types that do not fit.
 */
lb_status lb_tok_arrays_read(lb_tok_arrays *a, const lb_gguf_meta *meta, lb_arena *arena,
                             lb_err *err);
void lb_tok_arrays_deinit(lb_tok_arrays *a);
/* What rebuilding needs: text -> id, merges as ids, and which SentencePiece tokens are kept whole.
 * Of kinds with merges only ("gpt2", "gemma4", "llama"); LB_E_FORMAT: a text that is there twice.
 */
lb_status lb_tok_arrays_index(lb_tok_arrays *a, lb_err *err);
static inline lb_str lb_tok_text(const lb_tok_arrays *a, u64 i) {
    return lb_texts_get(a->token, i);
}
/* SentencePiece's table of characters ("t5"), as it is; empty: none. LB_E_FORMAT: no bytes. */
lb_status lb_tok_charsmap(const lb_tok_arrays *a, lb_str *out, lb_err *err);
/* A merge of the GGUF; i below merges->n. */
void lb_tok_merge(const lb_tok_arrays *a, u64 i, lb_str pair[2]);
/* The merges of the GGUF in order. */
typedef struct lb_tok_iter {
    const lb_tok_arrays *a;
    u64 at;
} lb_tok_iter;
lb_hf_merges lb_tok_merges(lb_tok_iter *it, const lb_tok_arrays *a);

/* tokenizer.json, of indexed arrays; LB_E_UNSUPPORTED: a kind that has no form there. */
lb_status lb_tok_rebuild_json(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, lb_err *err);
/* Whether there is a form, without making it. */
lb_status lb_tok_check_form(const lb_tok_arrays *a, lb_err *err);
/* The tokenizer.json of a GGUF's keys as parts: kept ones, else of the arrays. */
lb_status lb_tok_put_json(const lb_gguf_meta *meta, lb_hf_put *put, void *ctx, lb_err *err);
/* The small JSON files; added.ptr is NULL where no added_tokens.json is needed. */
typedef struct lb_tok_texts {
    lb_str config, map, added;
} lb_tok_texts;
lb_status lb_tok_rebuild_config(const lb_tok_arrays *a, lb_tok_texts *out, lb_err *err);
/* tokenizer.model: the pieces with their scores, and the options that the keys tell. */
lb_status lb_tok_rebuild_spm(const lb_tok_arrays *a, lb_out *out, lb_err *err);

/* The text of a SentencePiece token in a vocabulary: a user-defined run of spaces as U+2581. */
lb_status lb_tok_piece_text(const lb_tok_arrays *a, u64 i, lb_str *out, lb_err *err);
/* SentencePiece tokens that the trainer was told to keep whole; the reference types them as normal.
 */
static inline bool lb_tok_is_whole(const lb_tok_arrays *a, u64 i) {
    return a->whole && a->whole[i];
}
/* "[PAD<id>]", unused: a number without a token. */
bool lb_tok_is_padding(const lb_tok_arrays *a, u64 i);
/* Whether the arrays are of Unigram ("t5"). */
bool lb_tok_is_unigram(const lb_tok_arrays *a);
/* Whether the arrays are of SentencePiece ("llama"). */
bool lb_tok_is_spm(const lb_tok_arrays *a);
/* Whether they are SentencePiece's, kept as BPE with its merges ("gemma4"). */
bool lb_tok_is_merged_spm(const lb_tok_arrays *a);

#endif
