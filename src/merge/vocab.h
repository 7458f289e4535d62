/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h: vocabularies of merges: the tokens of the result, and for each of them the row of every
 * model that it is made of. As mergekit 0.1.5 does it (tokenizer/build.py, embed.py) where that
 * works; docs/merging.md says where it does not.
 *
 * The tokenizer of the result is one model's, with tokens added: ids never move. A model's row for
 * a token is its own; where it has none (or a setting says so), that of a model that has it, by
 * setting, else of the only one, else of the base, else the mean of those that have it, else zeros.
 * Pure: ids and rows; no plan. */
#ifndef LB_MERGE_VOCAB_H
#define LB_MERGE_VOCAB_H

#include "merge/outline.h"
#include "text/hf_tok.h"

#define LB_NO_ROW UINT32_MAX

typedef struct lb_vocab_model {
    const lb_hf_tok *tok; /* NULL: it has none, and is taken to have the first one's */
    u64 n_rows;           /* of its embedding: greater ids are no tokens of it */
} lb_vocab_model;

typedef struct lb_vocab_rule {
    u32 id; /* of the result */
    lb_merge_token_from from;
    u32 model, row;             /* ID; row LB_NO_ROW: the model has no such token */
    const lb_merge_token *said; /* NULL: an id between others that no token has */
    bool force;
} lb_vocab_rule;

typedef struct lb_vocab {
    u64 n_ids;            /* 1 + the largest */
    u64 n_tokens;         /* ids that are one */
    u64 n_rows;           /* of the matrices */
    u64 n_nowhere;        /* tokens that no model has */
    u32 **row;            /* [n_models][n_ids] */
    lb_vocab_rule *rules; /* by id */
    u64 n_rules;
} lb_vocab;

/* Adds to out, the tokenizer that the file names (its tokens beyond the embedding cut off), what
 * `union` and the settings of tokens add: entries of the vocabularies first, then added tokens,
 * model by model, by their ids. *n_added: how many. */
lb_status lb_vocab_extend(lb_hf_tok *out, const lb_merge_config *c, const lb_vocab_model *models,
                          lb_arena *perm, u64 *n_added, lb_err *err);
/* donor: the model that out is of; LB_NO_MODEL: none of the inputs. */
lb_status lb_vocab_map(lb_vocab *v, const lb_hf_tok *out, u32 donor, const lb_merge_config *c,
                       const lb_vocab_model *models, lb_arena *perm, lb_err *err);

/* ---- the rows of one tensor ---- */

typedef struct lb_vocab_slot {
    u32 model;
    bool is_base; /* of the slice, whatever the method thinks of bases */
    u64 n_rows;
} lb_vocab_slot;

/* Candidates of a row of n inputs: 0..n-1 the rows of `table`, n..2n-1 those of `second`, then
 * LB_VOCAB_ZERO(n), LB_VOCAB_MEAN(n). Rows from n_ids on, which are padding, are zero here. */
#define LB_VOCAB_ZERO(n) (2 * (n))
#define LB_VOCAB_MEAN(n) (2 * (n) + 1)
typedef struct lb_vocab_rows {
    u64 n_rows;
    u64 **table;   /* [n] NULL: as they are */
    u64 **second;  /* [n] NULL: none */
    float **which; /* [n] NULL: each row its own */
    float **part;  /* [n] of the mean: 0, or 1 where the slot has no part in it; NULL: no mean */
    float *count;  /* [n_rows] slots that have a part in it, at least 1 */
    bool zero;     /* some row is */
} lb_vocab_rows;

/* A tensor and its inputs. */
typedef struct lb_vocab_tensor {
    lb_str name; /* for messages */
    const lb_vocab_slot *slots;
    u32 n;
} lb_vocab_tensor;

/* LB_E_FORMAT: a setting names what is not there. */
lb_status lb_vocab_rows_make(lb_vocab_rows *r, const lb_vocab *v, const lb_merge_config *c,
                             const lb_vocab_tensor *t, lb_arena *perm, lb_err *err);

#endif
