/* SPDX-License-Identifier: Apache-2.0 */
/* hf_tok.h: a tokenizer.json in memory: its vocabulary and merges as compact arrays, the rest as a
 * small tree.
 *
 * The file is read once through a window. The two large members (model.vocab, model.merges) go
 * straight into arrays; the text around them, with their first two entries, is kept as the skeleton
 * from which hf_write.h makes the file again. Ids of added tokens are given as the tokenizers
 * library gives them (the file's number does not count where the model's vocabulary knows the
 * text). */
#ifndef LB_TEXT_HF_TOK_H
#define LB_TEXT_HF_TOK_H

#include "base/base.h"
#include "base/mem.h"
#include "base/texts.h"
#include "io/cur.h"
#include "io/json.h"
#include "text/hf_write.h"

typedef enum lb_hf_kind { LB_HF_BPE, LB_HF_UNIGRAM, LB_HF_WORDPIECE, LB_HF_WORDLEVEL } lb_hf_kind;

typedef struct lb_hf_added {
    lb_str content;
    u32 id;        /* as the tokenizers library numbers it */
    u64 file_id;   /* as written; UINT64_MAX: none */
    bool in_vocab; /* the model's vocabulary has this text too */
    bool single_word, lstrip, rstrip, normalized, special;
} lb_hf_added;

#define LB_HF_FOREIGN (1u << 31)

typedef struct lb_hf_tok {
    lb_hf_kind kind;
    lb_texts token;       /* [n_ids] model.vocab by id; holes are left out */
    lb_texts_index id_of; /* its text -> id */
    float *score;         /* [n_ids] Unigram; else NULL */
    double *exact;        /* the same as the file has them; NULL: score is all there is */
    u64 n_ids;            /* largest id of model.vocab + 1 */
    u64 n_vocab;          /* entries of model.vocab */
    /* [2 * n_merges] left, right: ids; with LB_HF_FOREIGN: a text in token's pool that is no entry
     */
    u32 *merge;
    u64 n_merges;
    u32 *joined; /* [n_merges] ids of both parts together (without the prefix of parts inside a
                    word); UINT32_MAX: no token that stood before; NULL: none are known */
    /* Instead of merges: every cut of a token into two others is one; hf_take.h */
    struct lb_cut_order *cuts;
    bool merge_pairs;     /* written as lists of two (else "left right") */
    lb_str skeleton;      /* the file's text; of model.vocab and model.merges only two entries */
    lb_json *rest;        /* the file with model.vocab and model.merges emptied */
    const lb_json *model; /* rest.model; never NULL */
    lb_hf_added *added;   /* in the order of the file, without those that the library ignores */
    u64 n_added, cap_added, next_added; /* next: 1 + the largest id in added */
    lb_map added_of;                    /* text -> index in added */
    lb_buf scores, doubles;             /* memory of score, exact */
    lb_buf merges, joins;               /* of merge, joined */
} lb_hf_tok;

typedef struct lb_hf_opts {
    const char *what; /* names the file in messages */
    bool no_arrays;   /* token, merge, id_of, added stay empty: the counts and the tree only */
} lb_hf_opts;
/* From the cursor's place to its end. Tree and skeleton live in arena, the arrays in t. LB_E_FORMAT
 * (offset in the file), LB_E_LIMIT, LB_E_NOMEM, LB_E_UNSUPPORTED (a model kind not known). */
lb_status lb_hf_tok_read(lb_hf_tok *t, lb_cur *c, const lb_hf_opts *o, lb_arena *arena,
                         lb_err *err);
/* The same of a text in memory. */
lb_status lb_hf_tok_parse(lb_hf_tok *t, lb_str text, const char *what, lb_arena *arena,
                          lb_err *err);
void lb_hf_tok_deinit(lb_hf_tok *t);
/* The parts of reading, for hf_take.h: tree, skeleton and kind; then, behind the vocabulary, the
 * added tokens of the tree. */
lb_status lb_hf_tok_rest(lb_hf_tok *t, lb_str skeleton, const char *what, lb_arena *arena,
                         lb_err *err);
lb_status lb_hf_tok_rest_added(lb_hf_tok *t, lb_arena *arena, lb_err *err);

/* A part of a merge; side 0 left, 1 right. */
lb_str lb_hf_tok_part(const lb_hf_tok *t, u64 merge, u32 side);
/* All merges in order, for hf_write.h. */
typedef struct lb_hf_tok_iter {
    const lb_hf_tok *t;
    u64 at;
} lb_hf_tok_iter;
lb_hf_merges lb_hf_tok_merges(lb_hf_tok_iter *it, const lb_hf_tok *t);

/* Adds a token as the library's add_tokens does; one that is there already is left as it is. */
lb_status lb_hf_tok_add(lb_hf_tok *t, const lb_hf_added *token, lb_arena *arena, lb_err *err);
/* Added tokens first, then the model's vocabulary. */
bool lb_hf_tok_id(const lb_hf_tok *t, lb_str text, u32 *id);
/* 1 + the largest id of all. */
u64 lb_hf_tok_n_all(const lb_hf_tok *t);

#endif
