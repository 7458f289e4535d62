/* SPDX-License-Identifier: Apache-2.0 */
/* config.h: merge files: the YAML of mergekit-yaml, mergekit-multi and mergekit-pytorch, as
 * mergekit 0.1.5 reads it (config.py, common.py, tokenizer/config.py, scripts/), to one form.
 *
 * Values are taken as pydantic takes them: "1e-5" is a number where one is wanted, null is absent.
 * What mergekit passes over is refused: a key that nobody knows, with the nearest that there is.
 * Knows no methods and no models. All memory is the arena's; texts are copied. */
#ifndef LB_MERGE_CONFIG_H
#define LB_MERGE_CONFIG_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"
#include "tensor/dtype.h"

#define LB_NO_MODEL UINT32_MAX
#define LB_NO_MERGE UINT32_MAX

/* A model: "PATH[@REVISION][+ADAPTER[@REVISION]]" or a mapping. Where a text could be split in
 * several ways, the last '+' and the last '@' count; whoever opens it tries `text` first. */
typedef struct lb_merge_ref {
    lb_str text; /* as the file has it; of a mapping, what mergekit prints */
    lb_str path, revision;
    lb_str lora, lora_revision;   /* empty: none */
    lb_str override_architecture; /* empty: none */
    u32 merge; /* the document of the file whose result it is (lb_merge_file.merges), LB_NO_MERGE */
    u32 line;
} lb_merge_ref;

/* Values of a parameter for the tensors whose name a filter is part of. value: a bool, number or
 * string, or an array of such (a gradient over the layers; an empty one says nothing). */
typedef struct lb_merge_choice {
    bool any; /* no filter, or "*" */
    lb_str filter;
    const lb_json *value;
} lb_merge_choice;

typedef struct lb_merge_setting {
    lb_str name;
    u32 line;
    const lb_merge_choice *choices; /* the first that fits counts; a plain value is one */
    u32 n_choices;
} lb_merge_setting;

typedef struct lb_merge_settings {
    lb_str where; /* "models[1].parameters", for messages */
    const lb_merge_setting *list;
    u32 n;
} lb_merge_settings;

typedef struct lb_merge_source {
    u32 model;    /* index into models */
    bool all;     /* every layer that it has; else [first, end) */
    bool implied; /* the base, which the file does not list */
    u64 first, end;
    lb_merge_settings settings;
    u32 line;
} lb_merge_source;

typedef struct lb_merge_slice {
    lb_str where; /* "slices[2]", "modules.text_decoder.models" */
    lb_merge_source *sources;
    u32 n_sources;
    u32 base;               /* the slice's own or else the config's; LB_NO_MODEL: none */
    double residual_weight; /* nothing reads it in 0.1.5 either; 0: not given */
    lb_merge_settings settings;
    u32 line;
} lb_merge_slice;

/* Part of a model (language model, vision tower...) by the name that mergekit's list of
 * architectures gives it; empty: each part of the model in the same way. */
typedef struct lb_merge_module {
    lb_str name;
    lb_merge_slice *slices;
    u32 n_slices;
    lb_merge_settings settings;
    u32 line;
} lb_merge_module;

typedef enum lb_merge_vocab {
    LB_VOCAB_KEPT, /* the donor's, and no rule for tokens */
    LB_VOCAB_UNION,
    LB_VOCAB_BASE,
    LB_VOCAB_MODEL
} lb_merge_vocab;

typedef enum lb_merge_token_from {
    LB_TOKEN_USUAL, /* by mergekit's rules */
    LB_TOKEN_MODEL, /* the same token of a model */
    LB_TOKEN_TEXT,  /* another token of a model */
    LB_TOKEN_ID,    /* row of a model */
    LB_TOKEN_ZERO
} lb_merge_token_from;

typedef struct lb_merge_token {
    lb_str token;
    lb_merge_token_from from;
    u32 model; /* an input: index into models, below n_models; MODEL, TEXT, ID */
    lb_str text;
    u64 id;
    bool force; /* also in models that have the token */
    u32 line;
} lb_merge_token;

typedef struct lb_merge_config {
    lb_str what; /* the file, for messages */
    lb_str name; /* empty: none */
    lb_str method;
    u32 method_line, line;
    /* The models, each once: the base first, then in order of mention. The first is the donor of
     * config and tokenizer. Behind n_models: those that only the tokenizer section names. */
    lb_merge_ref *models;
    u32 n_models, n_refs;
    u32 base; /* LB_NO_MODEL: none */
    lb_merge_module *modules;
    u32 n_modules;
    lb_merge_settings settings;
    bool has_dtype, has_out_dtype;
    lb_dtype dtype, out_dtype;
    lb_str chat_template; /* empty: none; "auto", a name of mergekit's, or a template */
    u32 chat_template_line;
    lb_merge_vocab vocab;
    u32 vocab_model; /* LB_VOCAB_MODEL */
    lb_merge_token *tokens;
    u32 n_tokens;
    u64 pad_to_multiple_of; /* 0: not */
    bool raw;
    lb_str *notes; /* keys that are known but say nothing here, one line each */
    u32 n_notes;
} lb_merge_config;

typedef struct lb_merge_file {
    lb_merge_config *merges; /* each behind those that it refers to */
    u32 n_merges;            /* the last is the result of the file */
} lb_merge_file;

enum {
    LB_MERGE_RAW = 1 /* mergekit-pytorch's form: models are files of tensors */
};

/* what names the file in messages: "WHAT: line N: KEY: ...". LB_E_FORMAT, LB_E_LIMIT,
 * LB_E_NOMEM. */
lb_status lb_merge_file_parse(lb_str text, const char *what, u32 flags, lb_arena *perm,
                              lb_merge_file *out, lb_err *err);

/* A scalar (or text) as pydantic's float, int and bool take it; false: it is none. */
bool lb_merge_as_float(const lb_json *v, double *out);
bool lb_merge_as_int(const lb_json *v, i64 *out);
bool lb_merge_as_bool(const lb_json *v, bool *out);

/* The nearest of a list (NULL at its end) to a word; NULL: none is near. */
const char *lb_merge_nearest(lb_str word, const char *const *list);

#endif
