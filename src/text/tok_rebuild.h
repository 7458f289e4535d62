/* SPDX-License-Identifier: Apache-2.0 */
/* tok_rebuild.h: a tokenizer.json and its small companions from the arrays of a GGUF. Internal to
 * text/. */
#ifndef LB_TEXT_TOK_REBUILD_H
#define LB_TEXT_TOK_REBUILD_H

#include "text/tokdata.h"

/* The arrays of a GGUF tokenizer, checked against each other. */
typedef struct lb_tok_arrays {
    const lb_gguf_meta *meta;
    lb_arena *arena;
    lb_str model, pre; /* tokenizer.ggml.model; pre: "default" where there is none */
    lb_str *token;     /* [n]; never empty */
    u8 *type;          /* [n] lb_spm_type; NORMAL where the GGUF has no types */
    float *score;      /* [n]; 0 where the GGUF has none */
    u64 n;
    bool has_scores, flat_scores; /* flat: all one score in the GGUF; score holds places */
    bool has_twice;               /* token `twice` has the text of one before it */
    u64 twice;
    lb_map id_of;  /* text -> id */
    lb_str *merge; /* [2 * n_merges] left, right */
    u64 n_merges;
} lb_tok_arrays;

/* LB_E_NOT_FOUND: no tokenizer; LB_E_FORMAT: lengths or types that do not fit.
 */
lb_status lb_tok_arrays_read(lb_tok_arrays *a, const lb_gguf_meta *meta, lb_arena *arena,
                             lb_err *err);
void lb_tok_arrays_deinit(lb_tok_arrays *a);

/* Merges of a SentencePiece BPE from its scores, as transformers' converters order them: by falling
 * score; by_length: then by falling length of the parts (gemma's files), else by id (llama's).
 * Tokens that are no normal or byte tokens count as score 0. token, type, score: [n]; out: [2 *
 * *n_out]. */
typedef struct lb_tok_pieces {
    const lb_str *token;
    const u8 *type;
    const float *score;
    u64 n;
    const lb_map *id_of;
} lb_tok_pieces;
lb_status lb_tok_make_merges(const lb_tok_pieces *p, bool by_length, lb_arena *arena, lb_str **out,
                             u64 *n_out, lb_err *err);

/* tokenizer.json; LB_E_UNSUPPORTED: a kind that has no form there. */
lb_status lb_tok_rebuild_json(const lb_tok_arrays *a, lb_str *out, lb_err *err);
/* The small JSON files; added.ptr is NULL where no added_tokens.json is needed. */
typedef struct lb_tok_texts {
    lb_str config, map, added;
} lb_tok_texts;
lb_status lb_tok_rebuild_config(const lb_tok_arrays *a, lb_tok_texts *out, lb_err *err);
/* tokenizer.model: the pieces with their scores, and the options that the keys tell. */
lb_status lb_tok_rebuild_spm(const lb_tok_arrays *a, lb_str *out, lb_err *err);

/* The text of a SentencePiece token in a vocabulary: a user-defined run of spaces as U+2581. */
lb_status lb_tok_piece_text(const lb_tok_arrays *a, u64 i, lb_str *out, lb_err *err);
/* Whether a SentencePiece token is one that its trainer was told to keep whole: the reference types
 * these as normal, but no pair of others gives them, and the trainer scores them 0 (flat scores say
 * nothing). */
bool lb_tok_is_whole(const lb_tok_arrays *a, u64 i);
/* "[PAD<id>]", unused: a number without a token. */
bool lb_tok_is_padding(const lb_tok_arrays *a, u64 i);
/* Whether the arrays are of SentencePiece ("llama"). */
bool lb_tok_is_spm(const lb_tok_arrays *a);

#endif
