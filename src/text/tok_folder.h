/* SPDX-License-Identifier: Apache-2.0 */
/* tok_folder.h: the files of a folder that describe its tokenizer, opened on demand. Internal to
 * text/. */
#ifndef LB_TEXT_TOK_FOLDER_H
#define LB_TEXT_TOK_FOLDER_H

#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/json.h"
#include "tensor/source.h"
#include "text/hf_tok.h"

/* The largest file that is read whole: ten times the largest tokenizer.json there is (2026). */
#define LB_TOK_FILE_MAX ((u64)512 << 20)

typedef struct lb_tok_folder {
    const lb_source *src;
    lb_arena arena;      /* everything below */
    lb_json *config;     /* config.json; NULL: none */
    lb_json *tok_config; /* tokenizer_config.json; NULL: none */
    bool has_tokenizer;  /* tok was parsed */
    bool has_arrays;     /* with vocabulary and merges */
    bool made;           /* from vocab.json and merges.txt, or a file of tiktoken */
    lb_hf_tok tok;
} lb_tok_folder;

/* Reads config.json and tokenizer_config.json. lb_tok_folder_close frees in any state. */
lb_status lb_tok_folder_open(lb_tok_folder *f, const lb_source *src, lb_err *err);
void lb_tok_folder_close(lb_tok_folder *f);
bool lb_tok_folder_has(const lb_tok_folder *f, const char *name);
/* In f->arena. *found = false and an empty text where there is no such file. */
lb_status lb_tok_folder_read(lb_tok_folder *f, const char *name, lb_str *text, bool *found,
                             lb_err *err);
/* The same in an arena of the caller's. */
lb_status lb_tok_folder_read_to(const lb_tok_folder *f, const char *name, lb_arena *arena,
                                lb_str *text, bool *found, lb_err *err);
/* An object; *out = NULL where there is no such file. */
lb_status lb_tok_folder_json(lb_tok_folder *f, const char *name, lb_json **out, lb_err *err);
/* Parses tokenizer.json (f->tok); arrays = false: only the tree and the counts. LB_E_NOT_FOUND
 * where there is none. */
lb_status lb_tok_folder_tokenizer(lb_tok_folder *f, bool arrays, lb_err *err);
/* The same where a GGUF's keys stand for the file, with arrays: it is not made. */
lb_status lb_tok_folder_take(lb_tok_folder *f, const lb_gguf_meta *meta, lb_err *err);
/* Adds to f->tok the tokens that transformers adds when it opens the folder: those of
 * tokenizer_config.json, of the older files beside it and of the tokenizer's class that
 * tokenizer.json does not know. */
lb_status lb_tok_folder_add_configured(lb_tok_folder *f, lb_err *err);
/* special_tokens_map.json where transformers reads it: without an added_tokens_decoder in
 * tokenizer_config.json. Its members count before tokenizer_config.json's. *out NULL: none. */
lb_status lb_tok_folder_map(lb_tok_folder *f, lb_json **out, lb_err *err);

/* A special token that a class has where the folder has no member of that name. */
typedef struct lb_tok_default {
    const char *key, *text; /* "bos_token", "<s>"; key NULL: the end */
} lb_tok_default;
/* The class that transformers takes, without "Fast"; empty: the general one. tokenizer.json was
 * read where there is one. */
lb_str lb_tok_class_name(const lb_tok_folder *f);
const lb_tok_default *lb_tok_class_defaults(const lb_tok_folder *f);

/* vocab.json and merges.txt, or a file of tiktoken, of a class that is known. */
bool lb_tok_has_legacy(const lb_tok_folder *f);
bool lb_tok_has_tiktoken(const lb_tok_folder *f);
lb_status lb_tok_tiktoken_text(const lb_tok_folder *f, lb_arena *arena, lb_str *out, lb_err *err);
/* Their text as one file, in arena. */
lb_status lb_tok_legacy_text(const lb_tok_folder *f, lb_arena *arena, lb_str *out, lb_err *err);

/* The text of a special token: a string, or the content of an object. */
bool lb_tok_token_text(const lb_json *v, lb_str *out);

#endif
