/* SPDX-License-Identifier: Apache-2.0 */
/* tok_sheet.h: the parts of a tokenizer.json that all kinds of vocabulary have: added tokens and
 * the post-processor. Internal to text/. */
#ifndef LB_TEXT_TOK_SHEET_H
#define LB_TEXT_TOK_SHEET_H

#include "io/json.h"
#include "text/tok_rebuild.h"

/* A file that is being made: all but its vocabulary and merges, as a tree in a->arena. */
typedef struct lb_tok_sheet {
    const lb_tok_arrays *a;
    lb_json *root, *model; /* model: root.model */
} lb_tok_sheet;

/* From the text of a whole file (a literal of the caller's). */
lb_status lb_sheet_begin(lb_tok_sheet *s, const char *skeleton, lb_err *err);
/* value may be NULL: out of memory. */
lb_status lb_sheet_put(lb_tok_sheet *s, lb_json *object, const char *key, lb_json *value,
                       lb_err *err);
lb_status lb_sheet_put_json(lb_tok_sheet *s, lb_json *object, const char *key, const char *text,
                            lb_err *err);
lb_status lb_sheet_put_bool(lb_tok_sheet *s, lb_json *object, const char *key, bool v, lb_err *err);
lb_status lb_sheet_put_str(lb_tok_sheet *s, lb_json *object, const char *key, lb_str v,
                           lb_err *err);

/* The text of a *_token_id key; false: absent or out of range. */
bool lb_tok_named_token(const lb_tok_arrays *a, const char *key, lb_str *text, u64 *id);
/* *v stays where the key is absent. */
bool lb_tok_flag(const lb_tok_arrays *a, const char *key, bool *v);

/* A token that a post-processor puts at an end of a text. */
typedef struct lb_tok_end {
    bool on;
    lb_str text;
    u64 id;
} lb_tok_end;

/* The token of a key, else llama.cpp's for that kind of vocabulary; otherwise UINT64_MAX: none.
 * e->on and the result: whether there is one. */
bool lb_tok_end_of(const lb_tok_arrays *a, const char *key, u64 otherwise, lb_tok_end *e);

typedef struct lb_tok_ends {
    lb_tok_end bos, eos;
    lb_tok_end sep; /* on: n_sep of them stand between the texts of a pair; else EOS and BOS */
    u32 n_sep;
} lb_tok_ends;

/* What llama.cpp does where the keys add_*_token do not say, and where it does not ask them. */
typedef struct lb_tok_post {
    bool bos, eos;      /* without a key */
    bool bos_always;    /* whatever the key says */
    u64 bos_id, eos_id; /* without a key; UINT64_MAX: none */
} lb_tok_post;

/* TemplateProcessing; *out = NULL where nothing is on. */
lb_status lb_sheet_template(lb_tok_sheet *s, const lb_tok_ends *e, lb_json **out, lb_err *err);
/* "post_processor" of BPE, SentencePiece and Unigram. */
lb_status lb_sheet_put_post(lb_tok_sheet *s, const lb_tok_post *rule, lb_err *err);

/* Whether a token is matched as a whole before the vocabulary is asked. */
bool lb_tok_is_added(const lb_tok_arrays *a, u64 i);
/* Whether blanks to the left of an added token, or to the right, belong to it. */
bool lb_tok_strips(const lb_tok_arrays *a, lb_str token, bool left);
/* Appends to "added_tokens"; contents [n] gives their texts. */
lb_status lb_sheet_put_added(lb_tok_sheet *s, const lb_texts *contents, lb_err *err);

/* WordPiece (GGUF "bert") and Unigram (GGUF "t5"): the whole file. */
lb_status lb_tok_rebuild_wordpiece(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, lb_err *err);
lb_status lb_tok_rebuild_unigram(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, lb_err *err);

#endif
